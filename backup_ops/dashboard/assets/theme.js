// Light or dark: as the system says until somebody chooses; the choice is kept in this browser.
const KEY = "backup-ops-theme"

export const isDark = () => document.documentElement.dataset.theme === "dark"

export function applyTheme() {
  const chosen = read()
  const dark = chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches
  document.documentElement.dataset.theme = dark ? "dark" : "light"
}

export function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark"
  try {
    window.localStorage.setItem(KEY, document.documentElement.dataset.theme)
  } catch {
    // storage may be off; then the choice lasts as long as the page
  }
}

function read() {
  try {
    return window.localStorage.getItem(KEY)
  } catch {
    return null
  }
}
