// The frame: bar with the connection, rail with the pages, banners.
import {h, useEffect, useRef, useState} from "./react.js"
import {Icon} from "./icons.js"
import {reconnect} from "./connection.js"
import {go, href} from "./route.js"
import {change, state, useStore} from "./store.js"
import {toggleTheme, isDark} from "./theme.js"
import {age, clock, count} from "./words.js"

const TITLES = {jobs: "Jobs", errors: "Errors", runs: "Runs"}
const ICONS = {jobs: "jobs", errors: "fail", runs: "runs"}

export function Bar() {
  const {route, home} = useStore()
  const crumbs = [home?.host || "…", TITLES[route.page], route.name].filter(Boolean)
  return h("header", {className: "bar"},
    h("button", {className: "btn q ic phone", "aria-label": "Menu", "aria-expanded": state.railOpen, onClick: () => change({railOpen: !state.railOpen})}, h(Icon, {name: "menu", size: ""})),
    h("span", {className: "brand"}, h(Icon, {name: "logo", size: "logo desk"}), "backup-ops"),
    h("nav", {className: "crumbs", "aria-label": "Breadcrumb"}, crumbs.flatMap((crumb, index) => [
      index ? h(Icon, {name: "next", key: `${index}>`}) : null,
      index === crumbs.length - 1 ? h("b", {key: index, className: "cut"}, crumb)
        : index === 1 ? h("a", {key: index, href: href(route.page)}, crumb) : h("span", {key: index}, crumb),
    ])),
    h("span", {className: "sp"}),
    h(Find),
    h(Live),
    h("button", {className: "btn q ic", "aria-label": isDark() ? "Light theme" : "Dark theme", title: isDark() ? "Light theme" : "Dark theme", onClick: () => { toggleTheme(); change({}) }},
      h(Icon, {name: isDark() ? "sun" : "moon", size: ""})))
}

function Find() {
  const [text, setText] = useState("")
  const names = [...state.cards.keys()]
  const find = (event) => {
    event.preventDefault()
    const wanted = text.trim()
    if (!wanted) return
    if (/^\d{8}T\d{6}-/.test(wanted)) go("runs", wanted)
    else if (state.cards.has(wanted)) go("jobs", wanted)
    else { change({filter: {text: wanted, kind: null}}); go("jobs") }
    setText("")
  }
  return h("form", {className: "in soft find", role: "search", onSubmit: find},
    h(Icon, {name: "search"}),
    h("input", {id: "find", value: text, placeholder: "Find job or run", "aria-label": "Find job or run", list: "job-names", autoComplete: "off", onChange: (event) => setText(event.target.value)}),
    h("datalist", {id: "job-names"}, names.slice(0, 200).map((name) => h("option", {key: name, value: name}))),
    h("span", {className: "kbd", "aria-hidden": true}, "/"))
}

export function Live() {
  const {connection, asOf, home} = useStore()
  const offset = home?.offset ?? 0
  if (connection === "connecting" || asOf == null) return h("span", {className: "live", "data-connection": "connecting"}, h("span", {className: "dot wait"}), "Connecting")
  const at = clock(asOf, offset)
  if (connection === "live") return h("span", {className: "live", "data-connection": "live"}, h("span", {className: "dot"}), h("span", null, h("span", {className: "desk"}, "Live · "), "as of ", h("time", null, at)))
  return h("span", {className: "live off", "data-connection": "offline"}, h(Icon, {name: "offline"}), h("span", null, "Offline", h("span", {className: "desk"}, ` · as of ${at}`)))
}

export function Rail() {
  const {route, cards, figures, home, railOpen} = useStore()
  const failed = [...cards.values()].filter((card) => ["failed", "interrupted", "lost"].includes(card.kind)).length
  const errors = [...cards.values()].reduce((sum, card) => sum + card.errors_unresolved, 0)
  const badge = {
    jobs: failed ? h("span", {className: "fail row tight", title: `${failed} not well`}, h(Icon, {name: "fail"}), failed) : null,
    errors: errors || figures.errors ? count(errors) : null,
  }
  const repositories = home?.repositories ?? 0
  return h("nav", {className: `rail${railOpen ? " open" : ""}`, "aria-label": "Main"},
    Object.keys(TITLES).map((page) => h("a", {key: page, href: href(page), className: page === route.page ? "on" : "", "aria-current": page === route.page ? "page" : undefined},
      h(Icon, {name: ICONS[page], size: ""}), TITLES[page], h("span", {className: "n"}, badge[page]))),
    h("div", {className: "foot"}, h("b", {className: "cut"}, home?.host || "…"),
      h("span", null, cards.size ? `${cards.size} ${cards.size === 1 ? "job" : "jobs"} · ${repositories} ${repositories === 1 ? "repository" : "repositories"}` : "No jobs yet"),
      h("span", null, home ? home.zone_text : "")))
}

export function Banners() {
  const {connection, lostAt, asOf, retryAt, home, operate, problems, doubt, news, failure} = useStore()
  const lines = problems.filter((problem) => /^[^ ]+:\d+: /.test(problem)).length
  const seconds = (at) => (Date.now() - at) / 1000
  return h("div", {className: "banners"},
    h("div", {className: "unseen", role: "status", "aria-live": "polite"}, news),
    failure ? h("div", {className: "note fail", role: "alert"}, h(Icon, {name: "fail", size: ""}), h("div", null, failure)) : null,
    h("div", {role: "status", "aria-live": "polite"}, connection === "offline" && lostAt != null ? h("div", {className: "note warn"},
      h(Icon, {name: "offline", size: ""}),
      h("div", null, h("b", null, `Connection lost ${seconds(lostAt) < 10 ? "just now" : `${age(seconds(lostAt))} ago`}. `),
        asOf == null ? "" : `What you see is from ${clock(asOf, home?.offset ?? 0)}. `, "Backups keep running without this page; what you typed is kept."),
      h("span", {className: "sp"}),
      h("span", {className: "small nowrap"}, retryAt && retryAt > Date.now() ? `Next try in ${Math.ceil((retryAt - Date.now()) / 1000)} s` : "Trying …"),
      h("button", {className: "btn sm", onClick: reconnect}, h(Icon, {name: "retry"}), "Try now")) : null),
    doubt ? h("section", {className: "note fail", role: "alert", "aria-label": "What is not known"}, h(Icon, {name: "fail", size: ""}),
      h("div", null, h("b", null, "The state of the jobs is not known. "), doubt)) : null,
    problems.length ? h("section", {className: "note fail problems", "aria-label": "Problems in jobs.yaml"}, h(Icon, {name: "fail", size: ""}),
      h("div", null,
        h("b", null, lines ? `jobs.yaml cannot be used: ${lines === 1 ? "one line needs" : `${lines} lines need`} correcting.` : "jobs.yaml cannot be used."),
        h("ul", null, problems.map((problem, index) => h("li", {key: index, className: "mono"}, problem))),
        h("p", null, `No job starts until it is corrected; runs under way go on. ${state.cards.size ? "The cards below show the jobs as they were last known." : ""}`))) : null,
    operate.allowed || !home ? null : h("div", {className: "note looking"}, h(Icon, {name: "lock", size: ""}), h("div", null, operate.reason)))
}

export function Help() {
  const {helpOpen} = useStore()
  const box = useRef(null)
  useEffect(() => {
    if (!helpOpen) return
    const before = document.activeElement
    box.current.focus()
    return () => before?.focus?.()
  }, [helpOpen])
  if (!helpOpen) return null
  const keys = [["/", "find a job or run"], ["j  k", "next, previous card"], ["Enter", "open the card"], ["r", "run the job of the card"], ["Esc", "close"], ["?", "this list"]]
  return h("div", {className: "scrim", onClick: () => change({helpOpen: false})},
    h("div", {className: "sheet", role: "dialog", "aria-modal": true, "aria-label": "Keys", tabIndex: -1, ref: box, onClick: (event) => event.stopPropagation()},
      h("h2", null, "Keys"), h("dl", {className: "facts"}, keys.flatMap(([key, does]) => [h("dt", {key}, h("span", {className: "kbd"}, key)), h("dd", {key: `${key}=`}, does)]))))
}
