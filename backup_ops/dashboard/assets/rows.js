// A window over many rows of different heights: only rows near the screen are in the document.
// Heights are measured once drawn; until then a row counts with its estimate.
import {h, useEffect, useLayoutEffect, useRef, useState} from "./react.js"

const OVERSCAN_PX = 600

export function Rows({rows, scroller, reveal}) {
  const box = useRef(null)
  const heights = useRef(new Map())
  const revealed = useRef(null)
  const [, redraw] = useState(0)
  const [view, setView] = useState([0, 1400])

  const height = (row) => heights.current.get(row.key) ?? row.estimate
  const tops = []
  let total = 0
  for (const row of rows) {
    tops.push(total)
    total += height(row)
  }

  useEffect(() => {
    const pane = scroller.current
    const look = () => {
      const start = box.current ? pane.getBoundingClientRect().top - box.current.getBoundingClientRect().top : 0
      const next = [Math.floor((start - OVERSCAN_PX) / 200) * 200, Math.ceil((start + pane.clientHeight + OVERSCAN_PX) / 200) * 200]
      setView((before) => (before[0] === next[0] && before[1] === next[1] ? before : next))
    }
    look()
    const forget = () => { heights.current = new Map(); look(); redraw((n) => n + 1) }
    pane.addEventListener("scroll", look, {passive: true})
    window.addEventListener("resize", forget)
    return () => { pane.removeEventListener("scroll", look); window.removeEventListener("resize", forget) }
  }, [])

  // After every draw: remember what rows really measure; draw again only when that moves something.
  useLayoutEffect(() => {
    let moved = false
    for (const element of box.current.querySelectorAll(":scope > [data-row]")) {
      const key = element.dataset.row
      const measured = element.offsetHeight
      if (measured && Math.abs((heights.current.get(key) ?? -1) - measured) > 0.5) {
        heights.current.set(key, measured)
        moved = true
      }
    }
    if (moved) redraw((n) => n + 1)
  })

  // Brings the asked row into view, once per ask: later changes must not pull the page from under the reader.
  useLayoutEffect(() => {
    if (reveal == null) { revealed.current = null; return }
    const index = rows.findIndex((row) => row.holds === reveal)
    if (index < 0 || revealed.current === reveal) return
    revealed.current = reveal
    const pane = scroller.current
    const top = box.current.getBoundingClientRect().top - pane.getBoundingClientRect().top + pane.scrollTop + tops[index]
    const fits = top >= pane.scrollTop && top + height(rows[index]) <= pane.scrollTop + pane.clientHeight
    if (!fits) pane.scrollTop = Math.max(0, top - 12)
  })

  const first = rows.findIndex((row, index) => tops[index] + height(row) >= view[0])
  let last = first
  while (last >= 0 && last < rows.length && tops[last] <= view[1]) last += 1
  const shown = first < 0 ? [] : rows.slice(first, last)
  return h("div", {className: "rows", ref: box, style: {paddingTop: first > 0 ? tops[first] : 0, paddingBottom: last >= 0 && last < rows.length ? total - tops[last] : 0}},
    shown.map((row) => h("div", {key: row.key, "data-row": row.key, className: `line ${row.className}`, style: row.style}, row.draw())))
}
