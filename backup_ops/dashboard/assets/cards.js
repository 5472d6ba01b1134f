// A job's card: large when it needs somebody or runs, 82 px when all is well.
import {h} from "./react.js"
import {ActButton} from "./buttons.js"
import {ProgressBar, Spark} from "./charts.js"
import {Detail, LongFacts} from "./detail.js"
import {Icon, STATUS, Status} from "./icons.js"
import {go} from "./route.js"
import {now, state} from "./store.js"
import {When} from "./time.js"
import {bytes, count, duration, left, safety, share, speed} from "./words.js"

const where = (card) => [card.engine, card.repository].filter(Boolean).join(" → ")
const never = (card) => (card.is_known ? "never" : "not known")
const toggle = (card, isOpen) => go("jobs", isOpen ? null : card.job)

export function progressWords(card, known = true) {
  const seen = card.progress
  if (!seen) return {percent: null, parts: [card.state === "queued" ? "Queued" : "Starting"], files: ""}
  const fraction = seen.fraction
  const parts = []
  if (seen.bytes_total) parts.push(share(seen.bytes_done ?? 0, seen.bytes_total))
  else if (seen.bytes_done) parts.push(bytes(seen.bytes_done))
  if (!known) parts.push("speed not known")
  else {
    if (seen.speed_bytes_s) parts.push(speed(seen.speed_bytes_s))
    if (seen.eta_s != null) parts.push(`about ${left(seen.eta_s)} left`)
  }
  if (!parts.length) parts.push(seen.phase)
  const files = seen.files_total ? `${count(seen.files_done ?? 0)} of ${count(seen.files_total)} files` : seen.files_done ? `${count(seen.files_done)} files` : ""
  return {percent: fraction == null ? null : Math.floor(fraction * 100), parts, files, fraction}
}

const Told = ({card}) => {
  const told = state.told.get(card.job)
  return told && !told.ok ? h("p", {className: "why fail-text small", role: "alert"}, told.text) : null
}

const Fact = ({name, children}) => h("div", null, h("dt", null, name), h("dd", null, children))

function Running({card}) {
  const known = state.connection === "live"
  const {percent, parts, files, fraction} = progressWords(card, known)
  return h("div", {className: "running"},
    h("p", {className: "why row progress"}, percent == null ? null : h("b", null, `${percent} %`), parts.map((part, index) => h("span", {key: index}, part)), h("span", {className: "sp"}), h("span", {className: "m"}, files)),
    h(ProgressBar, {fraction, label: card.job, known}))
}

function Facts({card}) {
  if (card.state === "running" || card.state === "queued") return h("dl", null,
    h(Fact, {name: card.state === "queued" ? "Queued" : "Started"}, h(When, {at: card.state === "queued" ? card.queued_at : card.started_at})),
    card.usual_duration_s ? h(Fact, {name: "Usually"}, duration(card.usual_duration_s)) : null,
    h(Fact, {name: "Last good"}, h(When, {at: card.last_good_at, never: never(card)})))
  const word = STATUS[card.kind].word
  return h("dl", null,
    h(Fact, {name: "Last good"}, h(When, {at: card.last_good_at, never: never(card)})),
    card.finished_at == null || card.kind === "warning" ? null : h(Fact, {name: word}, h(When, {at: card.finished_at})),
    card.files_total == null ? null : h(Fact, {name: "Files"}, count(card.files_total)),
    card.schedule_text ? h(Fact, {name: "Schedule"}, card.schedule_text) : null)
}

export function LargeCard({card, isOpen}) {
  const {tone, word} = STATUS[card.kind]
  const isLive = card.state === "running" || card.state === "queued"
  return h("article", {
    className: `card jc edge ${tone}${isOpen ? " opened" : ""}`, "data-job": card.job, "data-outcome": card.state, "data-open": isOpen, tabIndex: -1,
    "aria-label": `${card.job}, ${word}`,
  },
    h("div", {className: "hd"},
      h(Status, {kind: card.kind, chip: true}),
      h("h3", {className: "cut"}, h("a", {href: `#/jobs/${isOpen ? "" : encodeURIComponent(card.job)}`, "aria-expanded": isOpen}, card.job)),
      h("span", {className: "f small nowrap"}, where(card)),
      h("span", {className: "sp"}),
      h("span", {className: "row small m size"}, h(Spark, {sizes: card.sizes}), card.sizes.length ? h("span", {className: "tn"}, bytes(card.sizes[card.sizes.length - 1])) : null)),
    isLive && card.state === "running" ? h(Running, {card}) : h("p", {className: "why"}, card.what),
    isLive || !(card.deed || card.has_safety) ? null : h("p", {className: "fix small"}, card.deed, card.has_safety ? ` ${safety(card.last_good_at, now())}` : ""),
    h(Told, {card}),
    h("div", {className: "ft"}, isOpen ? h(LongFacts, {card}) : h(Facts, {card}),
      h("div", {className: "act"},
        h(ActButton, {card}),
        h("button", {type: "button", className: "btn sm", "aria-expanded": isOpen, "aria-label": `${isOpen ? "Collapse" : "Details of"} ${card.job}`, onClick: () => toggle(card, isOpen)},
          isOpen ? [h(Icon, {name: "up", key: "i"}), "Collapse"] : card.attention && card.run_id ? "See why" : "Details"))),
    isOpen ? h(Detail, {card}) : null)
}

export function SmallCard({card}) {
  const isLive = card.state === "running" || card.state === "queued"
  const {icon, tone, word} = STATUS[card.kind]
  const {percent, parts, fraction} = isLive ? progressWords(card, state.connection === "live") : {}
  const change = card.bytes_added == null ? "" : card.bytes_added ? `+${bytes(card.bytes_added)}` : "0 B"
  const told = state.told.get(card.job)
  return h("article", {className: "card qc", "data-job": card.job, "data-outcome": card.state, "data-open": false, tabIndex: -1, "aria-label": `${card.job}, ${word}`, onClick: () => toggle(card, false)},
    h("div", {className: "a"},
      h("span", {className: tone}, h(Icon, {name: icon, label: card.kind === "fine" ? "Succeeded" : word})),
      h("h3", {className: "cut"}, h("a", {href: `#/jobs/${encodeURIComponent(card.job)}`, "aria-expanded": false, onClick: (event) => event.stopPropagation()}, card.job)),
      h("span", {className: "f"}, where(card)),
      h(ActButton, {card, small: true})),
    isLive ? h("div", {className: "b"}, h(ProgressBar, {fraction: fraction ?? null, label: card.job, known: state.connection === "live"}))
      : h("div", {className: "b"},
        h("span", {className: "sz"}, card.sizes.length ? bytes(card.sizes[card.sizes.length - 1]) : card.is_known ? "no copy" : "not known"),
        h(Spark, {sizes: card.sizes, width: 96}),
        h("span", {className: "dl"}, change)),
    told && !told.ok ? h("div", {className: "c one"}, h("span", {className: "fail cut", title: told.text, role: "alert"}, told.text))
      : isLive ? h("div", {className: "c one"}, h("span", {className: "cut"}, percent == null ? parts.join(" · ") : `${percent} % · ${parts.join(" · ")}`))
      : h("div", {className: "c"},
        h("span", null, h(When, {at: card.last_good_at, never: never(card)})),
        h("span", null, card.duration_s == null ? "" : `took ${duration(card.duration_s)}`),
        h("span", null, card.files_total == null ? "" : `${count(card.files_total)} files`)))
}
