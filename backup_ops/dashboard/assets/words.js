// Numbers and times as backup_ops/quantity.py and backup_ops/verdict.py say them; a browser test compares the two.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]

export function age(seconds) {
  const total = Math.max(0, Math.floor(seconds))
  if (total < 10) return "just now"
  if (total < 60) return `${total} s`
  if (total < 3600) return `${Math.floor(total / 60)} min`
  if (total < 86400) return `${Math.floor(total / 3600)} h`
  const days = Math.floor(total / 86400)
  const hours = Math.floor(total / 3600) % 24
  return days < 3 && hours ? `${days} d ${hours} h` : `${days} d`
}

export function ago(moment, now) {
  if (moment == null) return "never"
  const said = age((now - moment) / 1000)
  return said === "just now" ? said : `${said} ago`
}

export function safety(moment, now) {
  if (moment == null) return "There is no good copy yet."
  const said = age((now - moment) / 1000)
  return said === "just now" ? "The newest good copy was made just now." : `The newest good copy is ${said} old.`
}

export function bytes(count) {
  if (count == null) return "?"
  let value = count
  let unit = 0
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2
  let figures = value.toFixed(digits)
  if (figures.includes(".")) figures = figures.replace(/\.?0+$/, "")
  return `${figures} ${UNITS[unit]}`
}

// `1.42 of 2.31 TiB`: the unit is said once where both have it.
export function share(part, whole) {
  const [figure, unit] = bytes(part).split(" ")
  return bytes(whole).endsWith(` ${unit}`) ? `${figure} of ${bytes(whole)}` : `${figure} ${unit} of ${bytes(whole)}`
}

export function duration(seconds) {
  if (seconds == null) return "?"
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  const total = Math.round(seconds)
  const parts = [[Math.floor(total / 86400), "d"], [Math.floor(total / 3600) % 24, "h"], [Math.floor(total / 60) % 60, "min"], [total % 60, "s"]]
  const first = parts.findIndex(([amount]) => amount)
  return parts.slice(first, first + 2).filter(([amount]) => amount).map(([amount, unit]) => `${amount} ${unit}`).join(" ")
}

// Time left is a guess: whole seconds, and "about" where it is shown.
export const left = (seconds) => duration(seconds < 10 ? Math.max(1, Math.round(seconds)) : seconds).replace(".0", "")

export const count = (number) => (number == null ? "?" : number.toLocaleString("en-US"))

export const speed = (bytesPerSecond) => (bytesPerSecond >= 1e6 ? `${figures(bytesPerSecond / 1e6)} MB/s` : `${figures(bytesPerSecond / 1e3)} kB/s`)

const figures = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2))

const two = (number) => String(number).padStart(2, "0")
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

// Times are shown in the zone of the machine that backs up, not of the one that looks.
const inZone = (moment, offsetMinutes) => new Date(moment + offsetMinutes * 60000)

export function clock(moment, offsetMinutes, withSeconds = true) {
  const at = inZone(moment, offsetMinutes)
  const said = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`
  return withSeconds ? `${said}:${two(at.getUTCSeconds())}` : said
}

export function day(moment, offsetMinutes) {
  const at = inZone(moment, offsetMinutes)
  return `${DAYS[at.getUTCDay()]} ${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`
}

export const dayAndClock = (moment, offsetMinutes) => `${day(moment, offsetMinutes)} ${clock(moment, offsetMinutes, false)}`

export function exact(moment, offsetMinutes, zone) {
  const at = inZone(moment, offsetMinutes)
  return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())} ${clock(moment, offsetMinutes)} ${zone}`
}
