// Small pictures: sizes over time, the last runs, progress.
import {h} from "./react.js"
import {STATUS} from "./icons.js"
import {bytes, duration} from "./words.js"

export function Spark({sizes, width = 84, height = 20}) {
  if (!sizes.length) return h("svg", {width, height, "aria-hidden": true})
  const points = sizes.slice(-20)
  const low = Math.min(...points)
  const span = Math.max(...points) - low
  const reach = width - 6
  const at = points.map((size, index) => [
    points.length === 1 ? reach : 2 + index * (reach - 2) / (points.length - 1),
    span ? height - 4 - (size - low) / span * (height - 8) : height / 2,
  ])
  const [x, y] = at[at.length - 1]
  return h("svg", {width, height, viewBox: `0 0 ${width} ${height}`, className: "spark", role: "img", "aria-label": `Size of the last ${points.length} copies, now ${bytes(points[points.length - 1])}`},
    at.length > 1 ? h("polyline", {points: at.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" "), fill: "none", stroke: "var(--data)", strokeWidth: 1.3, opacity: 0.8}) : null,
    h("circle", {cx: x, cy: y, r: 2, fill: "var(--data)"}))
}

export function ProgressBar({fraction, label, known = true}) {
  const percent = fraction == null ? null : Math.round(fraction * 100)
  return h("div", {className: `pbar${percent == null ? " open" : ""}${known ? "" : " stale"}`, role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent ?? undefined},
    h("i", {style: {transform: `scaleX(${fraction ?? 1})`}}))
}

const MARK = {ok: 0.55}

export function RunBars({runs}) {
  const longest = Math.max(...runs.map((run) => run.duration_s || 0), 0.001)
  const said = Object.entries(runs.reduce((counts, run) => ({...counts, [run.outcome]: (counts[run.outcome] || 0) + 1}), {}))
  return h("div", {className: "runbars", role: "img", "aria-label": `${runs.length} runs: ${said.map(([outcome, number]) => `${number} ${outcome}`).join(", ")}`},
    runs.map((run) => {
      const tone = (STATUS[run.outcome] || STATUS.none).tone
      const tall = 6 + 20 * (run.duration_s || 0) / longest
      return h("a", {key: run.run_id, href: `#/runs/${run.run_id}`, title: `${run.outcome}, ${duration(run.duration_s)}`, tabIndex: -1},
        h("i", {className: tone, style: {height: tall, opacity: MARK[tone] ?? 1}}))
    }))
}
