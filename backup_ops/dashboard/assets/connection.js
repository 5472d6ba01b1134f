// Whether the server is there. Bokeh says when the socket closes and tries again by itself; this adds what it lacks:
// a server that hangs without closing, more tries than Bokeh makes, and a fresh page when the session cannot come back.
import {ask, change, state} from "./store.js"

const BEAT_LOST_MS = 9000 // the server speaks every 2 s
const TRY_EVERY_MS = 4000
const RELOAD_AFTER_MS = 20000 // the server answers again and the socket still does not: its session is gone

let lost = null // Bokeh's last connection_lost event; it can reconnect
let answersSince = null

const watched = new WeakSet()

export function watchConnection(document_) {
  if (watched.has(document_)) return // after a reconnect Bokeh fills the same document anew
  watched.add(document_)
  document_.on_event("connection_lost", (_, event) => {
    lost = event
    goOffline()
  })
  document_.on_event("client_reconnected", () => {
    lost = null
    answersSince = null
    ask({type: "sync"})
  })
}

function goOffline() {
  if (state.connection === "offline") return
  change({connection: "offline", lostAt: Date.now(), retryAt: Date.now() + TRY_EVERY_MS, busy: new Map()})
}

export async function reconnect() {
  change({retryAt: Date.now() + TRY_EVERY_MS})
  lost?.reconnect()
  try {
    await fetch(document.querySelector("link[rel=stylesheet]").href, {method: "HEAD", cache: "no-store"})
    answersSince ??= Date.now()
  } catch {
    answersSince = null
  }
  if (state.connection === "offline" && answersSince && Date.now() - answersSince > RELOAD_AFTER_MS) window.location.reload()
}

// Called every second.
export function look() {
  const silentFor = state.asOf == null ? 0 : Date.now() + state.skew - state.asOf
  if (state.connection === "live" && silentFor > BEAT_LOST_MS) goOffline()
  if (state.connection === "offline" && Date.now() >= (state.retryAt ?? 0)) reconnect()
}
