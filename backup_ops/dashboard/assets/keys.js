// The keyboard: / find, j k next and previous card, Enter open, r run, Esc close, ? help.
import {act, change, state} from "./store.js"
import {go} from "./route.js"

const isTyping = (element) => element?.closest("input, textarea, select, [contenteditable]") != null

function step(by) {
  const cards = [...document.querySelectorAll("article[data-job]")]
  if (!cards.length) return
  const current = document.activeElement?.closest("article[data-job]")
  const next = cards[Math.min(cards.length - 1, Math.max(0, current ? cards.indexOf(current) + by : 0))]
  next.focus()
  next.scrollIntoView({block: "nearest"})
}

function close() {
  if (state.helpOpen) return change({helpOpen: false})
  if (state.railOpen) return change({railOpen: false})
  if (!state.route.name) return
  const job = state.route.name
  go(state.route.page)
  // Focus goes back to the card that was opened, wherever it now is.
  setTimeout(() => document.querySelector(`article[data-job="${CSS.escape(job)}"]`)?.focus(), 60)
}

export function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (event.key === "Escape") {
      if (isTyping(event.target)) event.target.blur()
      else close()
      return
    }
    if (isTyping(event.target)) return
    const card = document.activeElement?.closest("article[data-job]")
    const onCard = card && document.activeElement === card
    const does = {
      "/": () => document.getElementById("find")?.focus(),
      "?": () => change({helpOpen: true}),
      j: () => step(1), k: () => step(-1),
      Enter: onCard ? () => go("jobs", card.dataset.open === "true" ? null : card.dataset.job) : null,
      r: card ? () => { if (["running", "queued"].includes(card.dataset.outcome)) return; if (window.confirm(`Run ${card.dataset.job} now?`)) act("run", {job: card.dataset.job}) } : null,
    }[event.key]
    if (does) { event.preventDefault(); does() }
  })
}
