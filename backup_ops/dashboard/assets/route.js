// The URL's fragment is the only truth about what is shown: #/jobs/NAME, #/errors?severity=HIGH, #/runs/ID.
import {change, state} from "./store.js"

export const PAGES = ["jobs", "errors", "runs"]

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?")
  const [page, ...rest] = path.split("/").filter(Boolean).map(decode)
  return {
    page: PAGES.includes(page) ? page : "jobs",
    name: rest.length ? rest.join("/") : null,
    query: Object.fromEntries(new URLSearchParams(query)),
  }
}

const decode = (text) => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

export function href(page, name = null, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value))
  return `#/${page}${name == null ? "" : `/${encodeURIComponent(name)}`}${[...asked].length ? `?${asked}` : ""}`
}

export function go(page, name = null, query = {}) {
  const hash = href(page, name, query)
  if (window.location.hash !== hash) window.location.hash = hash
}

export function follow() {
  const read = () => change({route: parse(window.location.hash), railOpen: false})
  window.addEventListener("hashchange", read)
  read()
  return state.route
}
