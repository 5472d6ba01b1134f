// What an opened card shows: last runs, last log lines, error and remedy, snapshots, source and repository.
import {h} from "./react.js"
import {RunBars} from "./charts.js"
import {Icon} from "./icons.js"
import {href} from "./route.js"
import {state} from "./store.js"
import {When} from "./time.js"
import {bytes, clock, count, day, dayAndClock, duration} from "./words.js"

const Fact = ({name, children}) => h("div", null, h("dt", null, name), h("dd", null, children))

export function LongFacts({card}) {
  const size = card.sizes.length ? card.sizes[card.sizes.length - 1] : null
  return h("dl", null,
    h(Fact, {name: "Last good"}, h(When, {at: card.last_good_at, never: card.is_known ? "never" : "not known"})),
    card.started_at == null ? null : h(Fact, {name: "Last run"}, h(When, {at: card.started_at})),
    h(Fact, {name: "Schedule"}, card.schedule_text || "by hand"),
    size == null ? null : h(Fact, {name: "Size"}, bytes(size)),
    card.files_total == null ? null : h(Fact, {name: "Files"}, count(card.files_total)),
    card.usual_duration_s ? h(Fact, {name: "Usually"}, duration(card.usual_duration_s)) : null)
}

const Head = ({title, note, children}) => h("div", {className: "sec"}, h("h4", null, title), h("span", {className: "m small"}, note), h("span", {className: "sp"}), children)

const counted = (runs) => {
  const counts = runs.reduce((sums, run) => ({...sums, [run.outcome]: (sums[run.outcome] || 0) + 1}), {})
  return Object.entries(counts).map(([outcome, number]) => `${number} ${outcome}`).join(", ")
}

function Runs({runs, offset}) {
  if (!runs.length) return h("section", null, h(Head, {title: "Runs", note: "none yet"}))
  const times = runs.map((run) => run.duration_s).filter((seconds) => seconds != null).sort((a, b) => a - b)
  return h("section", null,
    h(Head, {title: runs.length === 1 ? "One run" : `Last ${runs.length} runs`, note: counted(runs)}),
    h(RunBars, {runs}),
    h("div", {className: "row small f under"},
      h("span", null, day(Date.parse(runs[0].queued_at), offset)),
      h("span", null, times.length ? `height = duration, median ${duration(times[Math.floor(times.length / 2)])}` : ""),
      h("span", null, "now")))
}

function Log({log, run_id, offset}) {
  if (!run_id) return h("section", null, h(Head, {title: "Log", note: "no run yet"}))
  return h("section", null,
    h(Head, {title: "Log, last lines", note: log.note}, h("a", {className: "small", href: href("runs", run_id)}, `Full log, ${count(log.total)} ${log.total === 1 ? "line" : "lines"}`)),
    log.lines.length ? h(LogLines, {lines: log.lines, first: log.total - log.lines.length + 1}) : h("p", {className: "m small"}, "Nothing was written to the log."))
}

// The log keeps UTC to the millisecond; a person reads the clock of the machine.
const STAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z) /
const readable = (line) => line.replace(STAMP, (_, at) => `${clock(Date.parse(at), state.home?.offset ?? 0)} `)

export const LogLines = ({lines, first = 1}) => h("div", {className: "log", tabIndex: 0, role: "log", "aria-label": "Log lines"}, lines.map((line, index) =>
  h("span", {key: index, className: /\b(error|failed|fatal|critical)\b/i.test(line) ? "e" : /\b(warning|notice|skipped)\b/i.test(line) ? "w" : "l"}, h("span", {className: "ln"}, first + index), readable(line))))

function Errors({card, errors}) {
  if (!errors.length) return h("section", null, h(Head, {title: "Errors", note: "none in the last runs"}))
  const [newest] = errors
  const isGrave = ["HIGH", "CRITICAL"].includes(newest.severity)
  const open = errors.filter((error) => !error.resolved).length
  return h("section", null,
    h(Head, {title: "Errors", note: open ? `${open} unresolved` : "all resolved"}, h("a", {className: "small", href: href("errors", null, {job: card.job})}, "All of this job")),
    h("div", {className: `note top ${isGrave ? "fail" : "warn"}`}, h(Icon, {name: isGrave ? "fail" : "warn", size: ""}),
      h("div", null, h("b", null, newest.message), " ", h("span", {className: "tag"}, newest.error_type),
        newest.remedy ? h("div", {className: "small"}, h("b", null, "What to do: "), newest.remedy) : null,
        h("div", {className: "small"}, newest.severity.toLowerCase(), ", ", h(When, {at: Date.parse(newest.occurred_at)})))))
}

function Snapshots({snapshots, offset}) {
  if (snapshots.error) return h("section", null, h(Head, {title: "Snapshots", note: "could not be read"}), h("p", {className: "small m"}, snapshots.error))
  const rows = snapshots.rows
  return h("section", null,
    h(Head, {title: "Snapshots", note: rows.length ? `${snapshots.total} kept` : "none yet: the first good run makes one"}),
    rows.length ? h("table", {className: "tight"},
      h("thead", null, h("tr", null, h("th", null, "Taken"), h("th", {className: "num"}, "Files"), h("th", {className: "num"}, "Size"), h("th", {className: "num"}, "Added"), h("th", null, "Snapshot"))),
      h("tbody", null, rows.map((row) => h("tr", {key: row.snapshot_id},
        h("td", null, dayAndClock(Date.parse(row.created_at), offset)), h("td", {className: "num"}, count(row.files)), h("td", {className: "num"}, bytes(row.bytes)),
        h("td", {className: "num"}, row.bytes_added ? `+${bytes(row.bytes_added)}` : "0 B"), h("td", {className: "mono"}, row.snapshot_id))))) : null)
}

function Place({card, detail}) {
  return h("section", {className: "place"},
    h(Head, {title: "From, to", note: ""}),
    h("dl", {className: "facts"},
      card.source.flatMap((path, index) => [h("dt", {key: `s${index}`}, index ? "" : "Source"), h("dd", {key: path, className: "mono wrap"}, path)]),
      h("dt", null, "Repository"), h("dd", {className: "wrap"}, card.repository || "none", detail.repository_url ? h("span", {className: "mono m"}, ` ${detail.repository_url}`) : null),
      h("dt", null, "Restore"), h("dd", {className: "mono wrap"}, `backup-ops restore ${quoted(card.job)} --target DIR`)))
}

const quoted = (name) => (/^[\w.@%+=:,/-]+$/.test(name) ? name : `'${name.replace(/'/g, "'\\''")}'`)

const Waiting = () => h("div", {className: "detail", "aria-busy": true}, [0, 1, 2, 3].map((part) => h("section", {key: part},
  h("span", {className: "sk", style: {width: "40%", height: 14}}), h("span", {className: "sk", style: {width: "100%", height: part % 2 ? 56 : 84, marginTop: 10}}))))

export function Detail({card}) {
  const detail = state.details.get(card.job)
  if (!detail) return h(Waiting)
  if (detail.error) return h("div", {className: "detail"}, h("p", {className: "m"}, detail.error))
  const offset = state.home?.offset ?? 0
  return h("div", {className: "detail"},
    h(Runs, {runs: detail.runs, offset}), h(Errors, {card, errors: detail.errors}),
    h(Log, {log: detail.log, run_id: detail.run_id, offset}), h(Snapshots, {snapshots: detail.snapshots, offset}),
    h(Place, {card, detail}))
}
