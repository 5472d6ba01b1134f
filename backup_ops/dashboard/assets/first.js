// A home without jobs: what to write, not a drawing.
import {h} from "./react.js"
import {Icon} from "./icons.js"
import {useStore} from "./store.js"
import {Verdict} from "./verdict.js"

const EXAMPLE = `version: 1
repositories:
  disk: {engine: rclone, url: /mnt/disk/backup}
jobs:
  photos:
    source: /srv/photos
    repository: disk`

export function FirstRun() {
  const {home, problems} = useStore()
  if (problems.length) return h("div", {className: "page"}, h("header", {className: "verdict"}, h("span", {className: "fail big"}, h(Icon, {name: "fail", size: "l", label: "Attention needed"})),
    h("div", null, h("h1", null, "No job can be read."), h("p", null, "jobs.yaml has to be corrected first; its problems are listed above. This page follows the file by itself."))))
  return h("div", {className: "page"}, h(Verdict),
    h("div", {className: "first"},
      h("section", {className: "card pad"}, h("h2", null, h(Icon, {name: "plus", size: ""}), "Make a job"),
        h("p", {className: "m"}, "Two answers: what, and where to. Write them into ", h("span", {className: "mono"}, `${home.path}/jobs.yaml`), "; this page shows the job as soon as the file is saved."),
        h("pre", {tabIndex: 0}, EXAMPLE),
        h("p", {className: "m small"}, "The folder of the repository is made by the first run; the folder above it must exist.")),
      h("section", {className: "card pad"}, h("h2", null, h(Icon, {name: "file", size: ""}), "Or let it be written"),
        h("p", {className: "m"}, "A commented first file, with a job that backs up this home itself:"), h("pre", {tabIndex: 0}, `backup-ops --home ${home.path} init`),
        h("p", {className: "m"}, "Check it, then run it:"), h("pre", {tabIndex: 0}, `backup-ops --home ${home.path} validate\nbackup-ops --home ${home.path} run NAME`)),
      h("section", {className: "card pad"}, h("h2", null, h(Icon, {name: "play", size: ""}), "Look around first"),
        h("p", {className: "m"}, "A demo home with jobs that really run, some of which fail on purpose. It lives in its own folder and can be deleted."), h("pre", {tabIndex: 0}, "backup-ops demo"))))
}
