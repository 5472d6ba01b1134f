// Errors and runs as plain tables, and one run with its log.
import {h, useEffect} from "./react.js"
import {LogLines} from "./detail.js"
import {Icon, Status} from "./icons.js"
import {go, href} from "./route.js"
import {ask, useStore} from "./store.js"
import {When} from "./time.js"
import {bytes, count, duration} from "./words.js"

export const SEVERITIES = ["CRITICAL", "HIGH", "MEDIUM", "LOW"]
const LEVEL = {LOW: 1, MEDIUM: 2, HIGH: 3, CRITICAL: 4}
const title = (word) => word[0] + word.slice(1).toLowerCase()

export const Severity = ({level}) => h("span", {className: `sev ${level.toLowerCase()}`},
  h("svg", {className: "i s", viewBox: "0 0 16 16", "aria-hidden": true}, [1, 2, 3, 4].map((bar) => h("rect", {key: bar, x: bar * 3.6 - 2.2, y: 13.5 - bar * 2.8, width: 2.4, height: bar * 2.8, rx: 0.6, fill: "currentColor", stroke: "none", opacity: bar <= (LEVEL[level] || 0) ? 1 : 0.22}))),
  h("span", null, title(level)))

function useAnswer(message, connection) {
  const key = JSON.stringify(message)
  useEffect(() => { if (connection === "live") ask(message) }, [key, connection])
}

const Waiting = () => h("section", {className: "card", "aria-busy": true}, [0, 1, 2, 3, 4].map((row) => h("div", {className: "skrow", key: row}, h("span", {className: "sk", style: {width: `${70 - row * 6}%`}}))))

export function Errors() {
  const {errors, route, connection, cards} = useStore()
  const {severity = null, job = null} = route.query
  const wanted = SEVERITIES.includes(severity?.toUpperCase()) ? severity.toUpperCase() : null
  const changed = [...cards.values()].reduce((sum, card) => sum + card.errors_unresolved, 0)
  useAnswer({type: "errors", severity: wanted, job, seen: changed}, connection)
  const isAnswer = errors && errors.severity === wanted && errors.job === job
  const chip = (level, number) => {
    const isOn = level === wanted
    return h("a", {key: level || "all", role: "button", className: `fc${isOn ? " on" : ""}`, "aria-pressed": isOn, href: href("errors", null, {severity: isOn ? null : level, job})},
      level ? h(Severity, {level}) : "All", " ", h("b", null, number ?? "…"))
  }
  const counts = errors?.counts || {}
  const all = SEVERITIES.reduce((sum, level) => sum + (counts[level] || 0), 0)
  return h("div", {className: "page"},
    h("header", {className: "verdict"}, h("div", null, h("h1", null, errors ? errors.headline : "Reading the errors…"), h("p", null, errors ? errors.detail : ""))),
    h("div", {className: "tools"}, h("div", {className: "seg", role: "group", "aria-label": "Filter by severity"}, chip(null, errors ? count(all) : null), SEVERITIES.map((level) => chip(level, errors ? count(counts[level] || 0) : null))),
      job ? h("a", {className: "fc on", role: "button", href: href("errors", null, {severity: wanted}), title: "Show all jobs"}, job, h(Icon, {name: "close"})) : null),
    !isAnswer ? h(Waiting) : !errors.rows.length ? h("p", {className: "empty"}, wanted || job ? `No ${wanted ? `${wanted.toLowerCase()} ` : ""}error${job ? ` of ${job}` : ""}. ` : errors.empty, wanted || job ? h("a", {className: "btn sm", href: "#/errors"}, "Clear the filter") : null)
      : h("section", {className: "card scroll"}, h("table", {"aria-label": "Errors, newest first"},
        h("thead", null, h("tr", null, ["Severity", "Error", "Job", "Component", "Seen", "State"].map((word) => h("th", {key: word}, word)))),
        h("tbody", null, errors.rows.map((row) => h("tr", {key: row.error_id, "data-error": row.error_id, "data-severity": row.severity},
          h("td", null, h(Severity, {level: row.severity})),
          h("td", {className: "wrap"}, h("b", null, row.message), " ", h("span", {className: "tag"}, row.error_type), row.remedy && !row.resolved ? h("div", {className: "m small"}, row.remedy) : null),
          h("td", null, row.job ? h("a", {href: href("jobs", row.job)}, row.job) : "–"), h("td", {className: "m"}, row.component),
          h("td", null, row.run_id ? h("a", {href: href("runs", row.run_id)}, h(When, {at: Date.parse(row.occurred_at)})) : h(When, {at: Date.parse(row.occurred_at)})),
          h("td", null, row.resolved ? h("span", {className: "st ok"}, h(Icon, {name: "ok"}), "Resolved") : h("span", {className: "m"}, "Open")))))),
        errors.total > errors.rows.length ? h("p", {className: "pad m small"}, `The newest ${count(errors.rows.length)} of ${count(errors.total)}; `, h("span", {className: "mono"}, "backup-ops errors"), " lists all.") : null))
}

export function Runs() {
  const {runs, route, connection, cards} = useStore()
  const newest = [...cards.values()].map((card) => `${card.run_id} ${card.state}`).sort().join()
  useAnswer({type: "runs", job: route.query.job || null, seen: newest}, connection)
  return h("div", {className: "page"},
    h("header", {className: "verdict"}, h("div", null, h("h1", null, runs ? runs.headline : "Reading the runs…"), h("p", null, runs ? runs.detail : ""))),
    !runs ? h(Waiting) : !runs.rows.length ? h("p", {className: "empty"}, "Nothing has run yet.")
      : h("section", {className: "card scroll"}, h("table", {"aria-label": "Runs, newest first"},
        h("thead", null, h("tr", null, ["Outcome", "Job", "Started", "Took", "Files", "Saved", "Why", "Run"].map((word) => h("th", {key: word, className: ["Took", "Files", "Saved"].includes(word) ? "num" : ""}, word)))),
        h("tbody", null, runs.rows.map((row) => h("tr", {key: row.run_id, "data-run": row.run_id},
          h("td", null, h(Status, {kind: row.outcome})), h("td", null, h("a", {href: href("jobs", row.job)}, row.job)),
          h("td", null, h(When, {at: Date.parse(row.started_at || row.queued_at)})), h("td", {className: "num"}, row.duration_s == null ? "" : duration(row.duration_s)),
          h("td", {className: "num"}, row.files_total == null ? "" : count(row.files_total)), h("td", {className: "num"}, row.bytes_added == null ? "" : bytes(row.bytes_added)),
          h("td", {className: "wrap m small"}, row.reason || ""), h("td", {className: "mono"}, h("a", {href: href("runs", row.run_id)}, row.run_id))))))))
}

export function Run() {
  const {run, route, connection, cards} = useStore()
  const live = [...cards.values()].find((card) => card.run_id === route.name)
  useAnswer({type: "run_details", run_id: route.name, seen: live ? `${live.state} ${live.progress?.bytes_done ?? ""}` : ""}, connection)
  if (!run || run.run_id !== route.name) return h("div", {className: "page"}, h("header", {className: "verdict"}, h("div", null, h("h1", null, `Reading run ${route.name}…`))), h(Waiting))
  if (run.error) return h("div", {className: "page"}, h("header", {className: "verdict"}, h("div", null, h("h1", null, "There is no such run."), h("p", null, run.error, " ", h("a", {href: "#/runs"}, "All runs")))))
  const facts = [["Job", h("a", {href: href("jobs", run.row.job)}, run.row.job)], ["Started", h(When, {at: Date.parse(run.row.started_at || run.row.queued_at)})], ["Took", run.row.duration_s == null ? "–" : duration(run.row.duration_s)],
    ["Attempts", run.row.attempts], ["Files", run.row.files_total == null ? "–" : count(run.row.files_total)], ["New, changed, deleted", [run.row.files_new, run.row.files_changed, run.row.files_deleted].map((n) => (n == null ? "–" : count(n))).join(", ")],
    ["Saved", run.row.bytes_added == null ? "–" : bytes(run.row.bytes_added)], ["Started by", run.row.trigger], ["Snapshot", run.row.snapshot_id ? h("span", {className: "mono"}, run.row.snapshot_id) : "none"]]
  return h("div", {className: "page", "data-run": run.run_id},
    h("header", {className: "verdict"}, h("div", null, h("div", {className: "row"}, h(Status, {kind: run.row.outcome, chip: true}), h("span", {className: "mono m"}, run.run_id)), h("h1", null, run.headline), h("p", null, run.detail))),
    h("div", {className: "run2"},
      h("section", {className: "card pad"}, h("h2", null, "Facts"), h("dl", {className: "facts"}, facts.flatMap(([name, value]) => [h("dt", {key: name}, name), h("dd", {key: `${name}=`}, value)]))),
      h("section", {className: "card pad"}, h("h2", null, run.log.total ? `Log, ${run.log.total > run.log.lines.length ? `last ${count(run.log.lines.length)} of ` : ""}${count(run.log.total)} lines` : "Log"),
        run.log.lines.length ? h(LogLines, {lines: run.log.lines, first: run.log.total - run.log.lines.length + 1}) : h("p", {className: "m"}, run.log.note || "Nothing was written to the log."),
        run.log.total > run.log.lines.length ? h("p", {className: "m small"}, "All of it: ", h("span", {className: "mono"}, `backup-ops logs ${run.run_id}`)) : null)))
}
