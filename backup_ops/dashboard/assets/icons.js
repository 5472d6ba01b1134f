// Icons in a 16 x 16 box. Each status has a shape of its own, so that colour is never the only sign.
import {h} from "./react.js"

const PATHS = {
  logo: [["path", "M2 4.5C2 3 4.7 2 8 2s6 1 6 2.5v7C14 13 11.3 14 8 14s-6-1-6-2.5z"], ["path", "M5 8.2l2.2 2.1L11.2 6"]],
  jobs: [["rect", 2, 2.5, 12, 4.4], ["rect", 2, 9.1, 12, 4.4], ["path", "M4.4 4.7h.1M4.4 11.3h.1"]],
  fail: [["path", "M5.4 1.8h5.2l3.6 3.6v5.2l-3.6 3.6H5.4l-3.6-3.6V5.4z"], ["path", "M6 6l4 4M10 6l-4 4"]],
  warn: [["path", "M8 2.2l6.2 11H1.8z"], ["path", "M8 6.6v3.1M8 11.5v.1"]],
  miss: [["circle", 8, 8, 6.2], ["path", "M8 4.6V8l2.3 1.6"], ["path", "M2.4 13.6L13.6 2.4"]],
  skip: [["circle", 8, 8, 6.2], ["path", "M5 8h6"]],
  run: [["path", "M14.2 8A6.2 6.2 0 118 1.8"], ["solid", "M6.6 5.6v4.8L10.4 8z"]],
  queue: [["dotted", 8, 8, 6.2], ["path", "M5.2 8h.1M8 8h.1M10.8 8h.1"]],
  lost: [["path", "M6 2.2A6.2 6.2 0 003 11.6M10 13.8A6.2 6.2 0 0013 4.4"], ["path", "M9 3.4L6.2 8.4h3.6L7 12.6"]],
  ok: [["circle", 8, 8, 6.2], ["path", "M5.2 8.2l2 2 3.7-4.2"]],
  runs: [["path", "M2.4 8a5.6 5.6 0 105.6-5.6A5.8 5.8 0 003.4 5"], ["path", "M3 2.2V5h2.8M8 5v3.2l2 1.4"]],
  search: [["circle", 7, 7, 4.6], ["path", "M10.5 10.5L14 14"]],
  next: [["path", "M6 3.5L10.5 8 6 12.5"]],
  retry: [["path", "M13.4 8A5.4 5.4 0 118 2.6c1.8 0 3.3.8 4.4 2.2"], ["path", "M12.8 2v3h-3"]],
  play: [["path", "M5 3v10l8-5z"]],
  stop: [["rect", 4, 4, 8, 8]],
  up: [["path", "M3.5 10L8 5.5 12.5 10"]],
  down: [["path", "M3.5 6L8 10.5 12.5 6"]],
  plus: [["path", "M8 3v10M3 8h10"]],
  close: [["path", "M4 4l8 8M12 4l-8 8"]],
  menu: [["path", "M2.4 4.4h11.2M2.4 8h11.2M2.4 11.6h11.2"]],
  moon: [["path", "M13.4 9.6A5.8 5.8 0 016.4 2.6a5.8 5.8 0 107 7z"]],
  sun: [["circle", 8, 8, 2.8], ["path", "M8 1.4v1.4M8 13.2v1.4M1.4 8h1.4M13.2 8h1.4M3.3 3.3l1 1M11.7 11.7l1 1M12.7 3.3l-1 1M4.3 11.7l-1 1"]],
  file: [["path", "M4 2h5l3.4 3.4V14H4z"], ["path", "M9 2v3.6h3.4"]],
  offline: [["path", "M2 13.6L14 2.4M3 7a7.4 7.4 0 013-1.8M8.6 4.8A7.4 7.4 0 0113 7M5.2 9.6A4 4 0 017 8.5M10.2 9a4 4 0 01.8.6M8 12.2h.1"]],
  lock: [["rect", 3.4, 7.2, 9.2, 6.4], ["path", "M5.4 7.2V5.2a2.6 2.6 0 015.2 0v2"]],
  help: [["circle", 8, 8, 6.2], ["path", "M6.2 6.4a1.9 1.9 0 113 1.5c-.8.5-1.2.8-1.2 1.6M8 11.6v.1"]],
}

function shape(entry, key) {
  const [kind, ...at] = entry
  if (kind === "path") return h("path", {key, d: at[0]})
  if (kind === "solid") return h("path", {key, d: at[0], fill: "currentColor"})
  if (kind === "rect") return h("rect", {key, x: at[0], y: at[1], width: at[2], height: at[3], rx: 1.2})
  return h("circle", {key, cx: at[0], cy: at[1], r: at[2], strokeDasharray: kind === "dotted" ? "2 2.2" : undefined})
}

const drawn = Object.fromEntries(Object.entries(PATHS).map(([name, entries]) => [name, entries.map(shape)]))

// A name makes it speak; without one it is decoration beside a word.
export const Icon = ({name, size = "s", label}) =>
  h("svg", {className: `i ${size}`, viewBox: "0 0 16 16", ...(label ? {role: "img", "aria-label": label} : {"aria-hidden": true})}, drawn[name])

// kind of a job (backup_ops/verdict.py) -> icon, colour, word
export const STATUS = {
  failed: {icon: "fail", tone: "fail", word: "Failed"},
  interrupted: {icon: "lost", tone: "lost", word: "Interrupted"},
  lost: {icon: "lost", tone: "lost", word: "Lost"},
  missed: {icon: "miss", tone: "miss", word: "Overdue"},
  none: {icon: "queue", tone: "queue", word: "Never run"},
  unknown: {icon: "queue", tone: "queue", word: "Not known"},
  warning: {icon: "warn", tone: "warn", word: "Warning"},
  running: {icon: "run", tone: "run", word: "Running"},
  queued: {icon: "queue", tone: "queue", word: "Queued"},
  skipped: {icon: "skip", tone: "miss", word: "Skipped"},
  cancelled: {icon: "skip", tone: "queue", word: "Cancelled"},
  fine: {icon: "ok", tone: "ok", word: "Fine"},
  succeeded: {icon: "ok", tone: "ok", word: "Succeeded"},
}
export const KINDS = Object.keys(STATUS).filter((kind) => kind !== "succeeded")

export const Status = ({kind, chip = false}) => {
  const {icon, tone, word} = STATUS[kind] || STATUS.none
  return h("span", {className: `st ${chip ? "chip " : ""}${tone}`}, h(Icon, {name: icon}), word)
}
