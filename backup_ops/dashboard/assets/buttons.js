// Run and Cancel. A button that works says so, and works once however often it is pressed.
import {h} from "./react.js"
import {Icon} from "./icons.js"
import {act, state} from "./store.js"

function why(card) {
  if (state.connection !== "live") return "Not connected: the server has to answer first."
  if (!state.operate.allowed) return state.operate.reason
  if (!card.is_configured) return state.problems.length ? "jobs.yaml has to be corrected first." : "The home has to be back first."
  return null
}

export function ActButton({card, small = false}) {
  const isLive = card.state === "running" || card.state === "queued"
  const type = isLive ? "cancel" : "run"
  const reason = isLive && state.problems.length && state.operate.allowed && state.connection === "live" ? null : why(card)
  const working = state.busy.get(card.job)
  const word = isLive ? "Cancel" : card.attention && !["none", "unknown"].includes(card.kind) && card.kind !== "warning" ? "Retry now" : "Run now"
  const icon = isLive ? "stop" : word === "Retry now" ? "retry" : "play"
  const label = `${isLive ? "Cancel" : "Run"} ${card.job}`
  const busyWord = working?.type === "cancel" ? "Cancelling" : "Starting"
  // Refused and busy buttons stay focusable (aria-disabled): a reader hears why, and the keyboard keeps its place.
  const refused = reason != null
  return h("button", {
    type: "button", "aria-label": label, "aria-busy": !!working, disabled: refused || !!working, "data-act": type,
    title: reason || (working ? `${busyWord} …` : label),
    className: small ? "btn q sm ic act1" : `btn sm${!isLive && card.attention && card.kind !== "warning" ? " p" : ""}`,
    onClick: (event) => { event.stopPropagation(); act(type, card) },
  }, working ? h("span", {className: "spin", "aria-hidden": true}) : h(Icon, {name: icon}), small ? null : working ? busyWord : word)
}
