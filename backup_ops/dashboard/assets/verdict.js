// The page's first line is the answer; then the figures, and one cell per job.
import {Fragment, h} from "./react.js"
import {Icon, KINDS, STATUS} from "./icons.js"
import {go, href} from "./route.js"
import {change, useStore} from "./store.js"
import {clock, count} from "./words.js"

const ICON = {ok: ["ok", "All is well"], warn: ["warn", "Protected, with warnings"], fail: ["fail", "Attention needed"], queue: ["queue", "Not known to be protected"]}
const CELLS_UP_TO = 200 // above that the cells would be thinner than the gaps

export function Verdict({children}) {
  const {verdict, connection, asOf, home} = useStore()
  if (!verdict) return h("header", {className: "verdict"}, h("span", {className: "queue big"}, h(Icon, {name: "queue", size: "l", label: "Not known yet"})),
    h("div", null, h("h1", null, "Reading the state of the jobs…"), h("p", null, "No answer yet: this page says “protected” only when it knows.")))
  const gone = connection === "offline"
  const said = gone ? verdict.past : verdict.now
  const [icon, label] = gone ? ["queue", "Not known now"] : ICON[verdict.tone]
  return h("header", {className: "verdict"},
    h("span", {className: `${gone ? "queue" : verdict.tone} big`}, h(Icon, {name: icon, size: "l", label})),
    h("div", null,
      h("h1", null, gone && asOf ? `As of ${clock(asOf, home?.offset ?? 0, false)}, ${said.headline}` : said.headline),
      h("p", null, said.detail.map(([text, isName], index) => (isName ? h("b", {key: index}, text) : h(Fragment, {key: index}, text))), gone ? " This may have changed since." : "")),
    children)
}

export function Figures() {
  const {figures} = useStore()
  return h("div", {className: "kpis"}, figures.map(({name, value, unit, note, job, page}) => h("div", {className: "kpi", key: name},
    h("div", {className: "k"}, name),
    h("div", {className: "v"}, value, unit ? h("small", null, unit) : null),
    h("div", {className: "s cut"}, job ? h("a", {href: href("jobs", job)}, job) : null, job && note ? ", " : "", page ? h("a", {href: href(page)}, note) : note))))
}

export function Roster({cards}) {
  const {connection} = useStore()
  const groups = KINDS.map((kind) => [kind, cards.filter((card) => card.kind === kind)]).filter(([, members]) => members.length)
  const said = `One cell per job, worst first: ${groups.map(([kind, members]) => `${members.length} ${STATUS[kind].word.toLowerCase()}`).join(", ")}`
  const stale = connection === "offline" ? " stale" : ""
  return h("div", {className: `roster${stale}`, role: "group", "aria-label": said}, groups.flatMap(([kind, members], index) => [
    index ? h("i", {key: `${kind}|`, className: "gap"}) : null,
    ...(cards.length > CELLS_UP_TO ? [h("button", {key: kind, className: STATUS[kind].tone, style: {flexGrow: members.length}, tabIndex: -1, title: `${members.length} ${STATUS[kind].word.toLowerCase()}`, onClick: () => change({filter: {text: "", kind}})})]
      : members.map((card) => h("button", {key: card.job, className: STATUS[kind].tone, tabIndex: -1, title: `${card.job}: ${STATUS[kind].word.toLowerCase()}`, "aria-label": `${card.job}: ${STATUS[kind].word.toLowerCase()}`, onClick: () => go("jobs", card.job)}))),
  ]))
}

export function Tools({cards}) {
  const {filter} = useStore()
  const counts = KINDS.map((kind) => [kind, cards.filter((card) => card.kind === kind).length]).filter(([kind, number]) => number || kind === filter.kind)
  const chip = (kind, word, number) => {
    const isOn = (filter.kind || null) === kind
    return h("button", {key: word, type: "button", className: `fc${isOn ? " on" : ""}`, "aria-pressed": isOn, onClick: () => change({filter: {...filter, kind: isOn ? null : kind}})},
      kind ? h("span", {className: STATUS[kind].tone}, h(Icon, {name: STATUS[kind].icon})) : null, word, " ", h("b", null, count(number)))
  }
  return h("div", {className: "tools"},
    h("label", {className: "in soft filter"}, h(Icon, {name: "search"}), h("input", {value: filter.text, placeholder: "Filter jobs", "aria-label": "Filter jobs", onChange: (event) => change({filter: {...filter, text: event.target.value}})}),
      filter.text ? h("button", {type: "button", className: "clear", "aria-label": "Clear the filter", onClick: () => change({filter: {...filter, text: ""}})}, h(Icon, {name: "close"})) : null),
    h("div", {className: "seg", role: "group", "aria-label": "Filter by status"}, chip(null, "All", cards.length), counts.map(([kind, number]) => chip(kind, STATUS[kind].word, number))))
}
