// Joins the page to the server: messages come in through the Panel component, the user's deeds go out through it.
import {h, ReactDOM, useEffect, useRef} from "./react.js"
import {look, watchConnection} from "./connection.js"
import {Jobs} from "./jobs.js"
import {listen} from "./keys.js"
import {follow} from "./route.js"
import {Banners, Bar, Help, Rail} from "./shell.js"
import {change, connectTo, hear, settle, useStore} from "./store.js"
import {applyTheme} from "./theme.js"
import {Errors, Run, Runs} from "./tables.js"

function App() {
  const {route, railOpen} = useStore()
  const scroller = useRef(null)
  useEffect(() => { if (!(route.page === "jobs" && route.name)) scroller.current.scrollTop = 0 }, [route.page, route.page === "runs" && route.name])
  useEffect(() => {
    const words = {jobs: "Jobs", errors: "Errors", runs: "Runs"}
    document.title = `${route.name || words[route.page]} · backup-ops`
  }, [route])
  const page = route.page === "errors" ? h(Errors) : route.page === "runs" ? (route.name ? h(Run, {key: route.name}) : h(Runs)) : h(Jobs, {scroller})
  return h("div", {className: "app"}, h(Bar), h(Rail),
    railOpen ? h("div", {className: "rail-scrim", onClick: () => change({railOpen: false})}) : null,
    h("main", {className: "main", ref: scroller, id: "main"}, h(Banners), page), h(Help))
}

let started = false
let heard = null

// A new session after a restart of the server draws this component anew; the page and what was typed in it stay.
export function start({model, view}) {
  if (heard) heard.model.off("msg:custom", heard.listener)
  heard = {model, listener: (event) => hear(event.data ?? event)}
  model.on("msg:custom", heard.listener)
  connectTo((message) => model.send_msg(message))
  if (!started) {
    started = true
    applyTheme()
    follow()
    listen()
    ReactDOM.render(h(App), document.getElementById("backup-ops"))
    setInterval(() => { look(); settle(); change({}) }, 1000)
  }
  watchConnection(view.model.document)
  model.send_msg({type: "sync"})
}
