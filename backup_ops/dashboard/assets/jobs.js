// The page of jobs: verdict, figures, roster, filters, and the windowed cards.
import {h, useEffect, useState} from "./react.js"
import {LargeCard, SmallCard} from "./cards.js"
import {FirstRun} from "./first.js"
import {Icon} from "./icons.js"
import {go} from "./route.js"
import {Rows} from "./rows.js"
import {ask, change, useStore} from "./store.js"
import {Figures, Roster, Tools, Verdict} from "./verdict.js"

const LARGE_PX = 152
const SMALL_PX = 92
const HEADING_PX = 30
const OPEN_PX = 560

function columns() {
  const width = window.innerWidth
  if (width <= 700) return {large: 1, small: 1}
  if (width <= 1000) return {large: 1, small: 2}
  return {large: 2, small: width <= 1240 ? 3 : 4}
}

export function inOrder(cards, placed) {
  const isTop = (card) => placed.get(card.job)?.top
  const rank = (card) => placed.get(card.job).rank
  const top = cards.filter(isTop).sort((a, b) => rank(a) - rank(b) || a.job.localeCompare(b.job))
  const rest = cards.filter((card) => !isTop(card)).sort((a, b) => a.job.localeCompare(b.job))
  return {top, rest}
}

const full = (card) => ({key: `+ ${card.job}`, holds: card.job, estimate: OPEN_PX, className: "single", draw: () => h(LargeCard, {card, isOpen: true})})

function section(title, note, cards, per, open, Card, estimate, className) {
  if (!cards.length) return []
  const rows = [{key: `# ${title}`, estimate: HEADING_PX, className: "heading", draw: () => h("div", {className: "sec"}, h("h2", null, title), h("span", {className: "m small"}, note))}]
  // The opened card takes the full width, above the row it would stand in; the others close the gap.
  const opened = cards.findIndex((card) => card.job === open)
  const others = cards.filter((_, index) => index !== opened)
  const before = Math.floor(opened / per) * per
  for (let start = 0; start < Math.max(others.length, 1); start += per) {
    if (opened >= 0 && start === before) rows.push(full(cards[opened]))
    const members = others.slice(start, start + per)
    if (members.length) rows.push({
      key: `${className} ${members.map((card) => card.job).join(" ")}`, estimate, className, style: {gridTemplateColumns: `repeat(${per}, minmax(0, 1fr))`},
      draw: () => members.map((card) => h(Card, {key: card.job, card, isOpen: false})),
    })
  }
  if (opened >= 0 && !rows.some((row) => row.holds)) rows.push(full(cards[opened]))
  return rows
}

function matching(cards, filter) {
  const text = filter.text.trim().toLowerCase()
  return cards.filter((card) => (!filter.kind || card.kind === filter.kind)
    && (!text || [card.job, card.engine, card.repository, ...card.source].some((word) => word && word.toLowerCase().includes(text))))
}

export function Jobs({scroller}) {
  const {cards, placed, filter, route, details, connection, home} = useStore()
  const [per, setPer] = useState(columns)
  useEffect(() => {
    const measure = () => setPer((before) => { const next = columns(); return next.large === before.large && next.small === before.small ? before : next })
    window.addEventListener("resize", measure)
    return () => window.removeEventListener("resize", measure)
  }, [])
  const open = route.name
  const all = [...cards.values()]
  const isHidden = open != null && cards.has(open) && !matching([cards.get(open)], filter).length
  useEffect(() => { if (isHidden) change({filter: {text: "", kind: null}}) }, [open, isHidden])
  useEffect(() => {
    if (open != null && cards.has(open) && connection === "live" && !details.has(open)) ask({type: "details", job: open})
  }, [open, cards.has(open), connection])
  if (home && !all.length) return h(FirstRun)
  const shown = matching(all, filter)
  const {top, rest} = inOrder(shown, placed)
  const needy = top.some((card) => card.attention)
  const busy = top.some((card) => !card.attention)
  const title = needy && busy ? "Needs you, and running" : needy ? "Needs you" : "Running"
  const rows = [
    ...section(title, top.length, top, per.large, open, LargeCard, LARGE_PX, "large"),
    ...section("Fine", `${rest.length}, by name`, rest, per.small, open, SmallCard, SMALL_PX, "small"),
  ]
  return h("div", {className: connection === "offline" ? "page stale" : "page"},
    h(Verdict), open != null && cards.has(open) ? null : h(Figures), h(Roster, {cards: all}), h(Tools, {cards: all}),
    open != null && home && !cards.has(open) ? h("div", {className: "note"}, h(Icon, {name: "search", size: ""}), h("div", null, h("b", null, `No job is named “${open}”.`), " It may have been renamed or removed from jobs.yaml. ", h("a", {href: "#/jobs"}, "Show all jobs"))) : null,
    shown.length ? h(Rows, {rows, scroller, reveal: open})
      : all.length ? h("p", {className: "empty"}, filter.text ? `No job matches “${filter.text}”. ` : "No job is in this state now. ",
        h("button", {className: "btn sm", onClick: () => { change({filter: {text: "", kind: null}}); go("jobs") }}, "Clear the filter")) : null)
}
