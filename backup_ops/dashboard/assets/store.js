// What this page knows. One place; components read it, messages from the server and the user's hands change it.
import {useEffect, useState} from "./react.js"
import {KINDS} from "./icons.js"

export const DWELL_MS = 10000 // a card changes its section, or its rank there, at most this often

export const state = {
  connection: "connecting", // connecting | live | offline
  asOf: null, lostAt: null, retryAt: null, skew: 0, // skew: the server's clock minus ours, ms
  home: null, // {name, host, zone, offset, slots, jobs, repositories}
  operate: {allowed: false, reason: "Connecting."},
  cards: new Map(), placed: new Map(), // placed: job -> {top, rank, at}
  verdict: null, figures: [], problems: [], doubt: "",
  busy: new Map(), told: new Map(), // job -> since when its button works, job -> what the server said
  filter: {text: "", kind: null},
  details: new Map(), errors: null, runs: null, run: null,
  route: {page: "jobs", name: null, query: {}},
  railOpen: false, helpOpen: false, news: "", failure: "",
}

const listeners = new Set()
let send = () => {}

export function change(update) {
  Object.assign(state, update)
  for (const listener of [...listeners]) listener()
}

export function useStore() {
  const [, tick] = useState(0)
  useEffect(() => {
    const listener = () => tick((n) => n + 1)
    listeners.add(listener)
    return () => listeners.delete(listener)
  }, [])
  return state
}

export const now = () => Date.now() + state.skew
export const connectTo = (sender) => { send = sender }
export const ask = (message) => send(message)

const sinceBy = (map, key, value) => {
  const copy = new Map(map)
  if (value === undefined) copy.delete(key)
  else copy.set(key, value)
  return copy
}

// --- what the user does

const ACTIONS = new Set(["run", "cancel"])

export function act(type, {job, run_id}) {
  if (!ACTIONS.has(type) || state.busy.has(job) || !state.operate.allowed || state.connection !== "live") return
  // The map changes before this returns: a second click of a double click finds it there.
  state.busy = sinceBy(state.busy, job, {type, at: Date.now()})
  change({told: sinceBy(state.told, job)})
  send(type === "cancel" ? {type, job, run_id} : {type, job})
  setTimeout(() => release(job), 15000) // an answer that never comes must not lock the button for good
}

const release = (job) => change({busy: sinceBy(state.busy, job)})

// --- what the server says

const TIMES = ["queued_at", "started_at", "finished_at", "last_good_at"]

function read(card) {
  for (const name of TIMES) card[name] = card[name] == null ? null : Date.parse(card[name])
  return card
}

function place(cards, placed) {
  const next = new Map()
  const at = Date.now()
  for (const card of cards.values()) {
    const before = placed.get(card.job)
    const top = card.attention || card.state === "running" || card.state === "queued"
    const rank = top ? KINDS.indexOf(card.kind) : 0 // those that are fine stand by name
    if (!before) next.set(card.job, {top, rank, at: 0})
    else if ((before.top === top && before.rank === rank) || at - before.at < DWELL_MS || isTouched(card.job)) next.set(card.job, before)
    else next.set(card.job, {top, rank, at})
  }
  return next
}

const isTouched = (job) => {
  const card = document.querySelector(`article[data-job="${CSS.escape(job)}"]`)
  return !!card && (card.matches(":hover, :focus-within") || state.route.name === job)
}

export function settle() {
  const placed = place(state.cards, state.placed)
  if ([...placed].some(([job, place_]) => state.placed.get(job) !== place_)) change({placed})
}

const BAD = new Set(["failed", "interrupted", "lost", "missed"])
const TOLD_MS = 20000 // a refusal stays readable, then the card says again how the job is

const HEARD = {
  state(message) {
    const cards = new Map(message.cards.map((card) => [card.job, read(card)]))
    change({
      ...common(message), home: message.home, operate: message.operate, problems: message.problems, cards,
      placed: place(cards, state.placed), busy: new Map(), verdict: message.verdict, figures: message.figures, doubt: message.doubt,
    })
  },
  patch(message) {
    const cards = new Map(state.cards)
    for (const job of message.gone) cards.delete(job)
    let busy = state.busy
    for (const card of message.cards) {
      if (busy.has(card.job) && outcomeOf(cards.get(card.job)) !== outcomeOf(card)) busy = sinceBy(busy, card.job)
      cards.set(card.job, read(card))
    }
    const update = {...common(message), cards, busy, placed: place(cards, state.placed)}
    const worse = message.cards.filter((card) => BAD.has(card.kind) && !BAD.has(state.cards.get(card.job)?.kind))
    if (worse.length) update.news = worse.map((card) => `${card.job}: ${card.what}`).join(" ") // said once to who cannot see
    for (const name of ["verdict", "figures", "doubt", "problems", "home"]) if (name in message) update[name] = message[name]
    change(update)
    const open = state.route.page === "jobs" && state.route.name
    const changed = message.cards.find((card) => card.job === open)
    if (changed && state.details.get(open)?.revisionOf !== outcomeOf(changed)) ask({type: "details", job: open})
  },
  beat: (message) => change({...common(message), ...(message.verdict ? {verdict: message.verdict, figures: message.figures, doubt: message.doubt} : {})}),
  operate: (message) => change({operate: message.operate}),
  told(message) {
    change({told: sinceBy(state.told, message.job, message), ...(message.ok ? {} : {busy: sinceBy(state.busy, message.job)})})
    if (!message.ok) setTimeout(() => state.told.get(message.job) === message && change({told: sinceBy(state.told, message.job)}), TOLD_MS)
  },
  details: (message) => change({details: sinceBy(state.details, message.job, {...message, revisionOf: outcomeOf(state.cards.get(message.job))})}),
  errors: (message) => change({errors: message, failure: ""}),
  runs: (message) => change({runs: message, failure: ""}),
  run: (message) => change({run: message, failure: ""}),
  failed: (message) => change({failure: message.text}),
}

const outcomeOf = (card) => (card ? `${card.run_id} ${card.state}` : "")

function common(message) {
  const at = Date.parse(message.at)
  return {asOf: at, skew: at - Date.now(), connection: "live", lostAt: null, retryAt: null}
}

export const hear = (message) => HEARD[message.type]?.(message)
