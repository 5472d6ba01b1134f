// A moment, said relative to now, exact on hover and focus.
import {h} from "./react.js"
import {now, state} from "./store.js"
import {ago, exact} from "./words.js"

export const When = ({at, never = "never"}) => {
  if (at == null) return h("span", null, never)
  const {offset = 0, zone = "UTC"} = state.home || {}
  const said = exact(at, offset, zone)
  return h("time", {className: "t", tabIndex: 0, title: said, dateTime: new Date(at).toISOString(), "aria-label": `${ago(at, now())}, ${said}`}, ago(at, now()))
}
