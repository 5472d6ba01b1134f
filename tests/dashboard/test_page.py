"""The page, driven as a person drives it: a real browser, a real server, real runs."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from backup_ops import verdict
from backup_ops.quantity import format_bytes, format_count, format_duration

pytestmark = pytest.mark.ui

AGES = [0, 9, 10, 59, 60, 3599, 3600, 86399, 86400, 90000, 129600, 172800, 259199, 259200, 9 * 86400 + 5]
SIZES = [0, 1, 999, 1000, 1023, 1024, 10239, 10240, 102399, 1048576, 5 * 10**7, 302 * 2**30, 7 * 2**40, 2**53]
DURATIONS = [0.04, 0.4, 9.94, 10, 59.4, 60, 61, 3599.6, 3600, 3661, 86400, 129600, 10**6]


def card(page, job: str):
    return page.locator(f'article[data-job="{job}"]')


def runs_of(home, *options: str) -> list[str]:
    """The run ids that the shell knows."""
    command = [sys.executable, "-m", "backup_ops", "--home", str(home), "runs", *options]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [word for word in said.split() if word[:8].isdigit() and "T" in word]


def shell(home, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "backup_ops", "--home", str(home), *words], check=False, capture_output=True)


@pytest.fixture
def home(place):
    """`photos` can run, `gone` fails, `slow` takes its time."""
    place.fill(20)
    place.fill(40, 100_000, folder=place.folder / "big")
    place.write_jobs(
        f"""
        gone: {{source: {place.folder}/not-there, repository: mirror}}
        slow: {{source: {place.folder}/big, repository: cold, limits: {{bandwidth: 500K}}}}
        """,
        repositories=f"cold: {{engine: rclone, url: {place.folder}/cold}}",
    )
    return place.home


def test_a_double_click_is_one_run_and_the_card_follows_it(home, serve, operate):
    page = operate(serve(home))
    expect(page.locator("h1")).to_have_text("None of the 3 jobs is protected yet.")
    expect(card(page, "photos")).to_have_attribute("data-outcome", "none")
    page.get_by_label("Run photos").dblclick()
    expect(card(page, "photos")).to_have_attribute("data-outcome", "succeeded")
    # Under the pointer it stays as large as it was.
    expect(card(page, "photos")).to_contain_text(re.compile("Files ?20|20 files"))
    expect(page.locator("h1")).to_have_text("2 of 3 jobs are not protected.")
    assert len(runs_of(home)) == 1, "a double click has started two runs"


def test_a_button_works_once_and_shows_that_it_does(home, serve, operate):
    page = operate(serve(home))
    # The button is looked at in the same turn of the browser's loop as the click: no answer can have come yet.
    states = page.evaluate(
        """() => {
          const button = () => document.querySelector('[aria-label="Run photos"]')
          const before = button().getAttribute("aria-busy")
          for (let n = 0; n < 5; n++) button().click()
          return [before, button().getAttribute("aria-busy"), button().disabled]
        }"""
    )
    assert states == ["false", "true", True]
    expect(card(page, "photos")).to_have_attribute("data-outcome", "succeeded")
    assert len(runs_of(home)) == 1


def test_progress_is_shown_and_cancel_stops_the_run(home, serve, operate):
    page = operate(serve(home))
    page.get_by_label("Run slow").click()
    bar = card(page, "slow").get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]\d?$"))
    expect(card(page, "slow")).to_contain_text(re.compile(r"\d+ %.* of 3\.81 MiB.*left"))
    page.get_by_label("Cancel slow").click()
    expect(card(page, "slow")).to_have_attribute("data-outcome", "cancelled")
    expect(card(page, "slow")).to_contain_text("There is no good copy yet.")


def test_a_run_started_in_the_shell_moves_the_card_without_reload(home, serve, open_browser):
    server = serve(home)
    page = open_browser().new_page()
    page.goto(server.url)
    expect(card(page, "photos")).to_have_attribute("data-outcome", "none")
    page.evaluate("window.isSamePage = true")
    shell(home, "run", "photos")
    expect(card(page, "photos")).to_have_attribute("data-outcome", "succeeded")
    assert page.evaluate("window.isSamePage")


def test_without_the_link_the_page_only_looks_and_the_server_refuses(home, serve, open_browser):
    server = serve(home)
    page = open_browser().new_page()
    page.goto(server.url)
    button = page.get_by_label("Run photos")
    expect(button).to_be_disabled()
    assert "open the link that stands in the terminal" in button.get_attribute("title")
    page.evaluate("Bokeh.index.roots[0].model_proxy.send_msg({type: 'run', job: 'photos'})")
    expect(card(page, "photos")).to_contain_text("You are looking.")
    assert runs_of(home) == []


def test_the_link_lets_one_browser_in_and_the_next_link_another(home, serve, open_browser):
    server = serve(home)
    used = server.link
    first = open_browser().new_page()
    first.goto(used)
    assert "token" not in first.url
    expect(first.get_by_label("Run photos")).to_be_enabled()
    (cookie,) = first.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] in ("Lax", "Strict")

    second = open_browser().new_page()
    assert second.goto(used).status == 403
    expect(second.locator("h1")).to_have_text("This link has been used, or it is not of this server.")
    fresh = server.link
    assert fresh != used
    second.goto(fresh)
    expect(second.get_by_label("Run photos")).to_be_enabled()
    assert first.goto(used).status == 200, "the browser that used the link may open it once more"


def test_a_session_that_somebody_chose_gives_nobody_a_right(home, serve, operate, open_browser):
    server = serve(home)
    victim = operate(server)
    chosen = server.url + "?bokeh-session-id=attackerchosen0123456789"
    assert victim.goto(chosen).status == 403
    expect(victim.get_by_role("link", name="Look without the right")).to_be_visible()
    stranger = open_browser().new_page()
    assert stranger.goto(chosen).status == 403
    headed = open_browser(extra_http_headers={"Bokeh-Session-Id": "attackerchosen0123456789"}).new_page()
    assert headed.goto(server.url).status == 403
    victim.goto(server.url)
    expect(victim.get_by_label("Run photos")).to_be_enabled()


def test_a_right_that_is_taken_back_ends_in_open_pages(home, serve, operate):
    page = operate(serve(home))
    expect(page.get_by_label("Run photos")).to_be_enabled()
    (home / "operate.key").unlink()
    page.get_by_label("Run photos").click()
    expect(card(page, "photos")).to_contain_text("You are looking.")
    expect(page.get_by_label("Run photos")).to_be_disabled()
    expect(page.get_by_label("Run photos")).to_have_attribute("aria-busy", "false")
    assert runs_of(home) == []


def test_an_opened_card_keeps_its_place_when_its_run_starts_and_ends(home, serve, operate):
    for job in ("gone", "photos"):
        shell(home, "run", job)
    page = operate(serve(home), "#/jobs/slow")
    expect(card(page, "slow")).to_have_attribute("data-open", "true")
    order = "Array.from(document.querySelectorAll('article[data-job]')).map((card) => card.dataset.job).join()"
    page.goto(page.url.replace("slow", "gone"))
    expect(card(page, "gone")).to_have_attribute("data-open", "true")
    page.mouse.move(0, 0)
    assert page.evaluate(order) == "gone,slow,photos"
    page.evaluate("document.activeElement.blur()")
    (home.parent / "not-there").mkdir()
    (home.parent / "not-there" / "file").write_text("x")
    shell(home, "run", "gone")
    expect(card(page, "gone")).to_have_attribute("data-outcome", "succeeded")
    page.wait_for_timeout(1500)
    assert page.evaluate(order) == "gone,slow,photos", "the opened card has left its place"


def test_a_home_that_goes_is_said_by_the_page_and_noticed_when_it_is_back(home, serve, operate):
    page = operate(serve(home))
    expect(page.get_by_label("Run photos")).to_be_enabled()
    home.rename(home.parent / "elsewhere")
    said = page.get_by_label("What is not known")
    expect(said).to_contain_text(f"The home {home} is gone")
    expect(page.locator("h1")).to_have_text("Whether the jobs are protected is not known.")
    expect(card(page, "photos")).to_contain_text("Not known")
    expect(page.get_by_label("Run photos")).to_be_disabled()
    (home.parent / "elsewhere").rename(home)
    expect(said).to_have_count(0)
    expect(page.get_by_label("Run photos")).to_be_enabled()


def test_a_jobs_yaml_that_was_deleted_is_missed(home, serve, operate):
    page = operate(serve(home))
    expect(page.get_by_label("Run photos")).to_be_enabled()
    (home / "jobs.yaml").unlink()
    expect(page.get_by_label("Problems in jobs.yaml")).to_contain_text("there is no")
    expect(page.get_by_label("Run photos")).to_be_disabled()


def test_deep_links_open_a_card_and_back_returns(home, serve, operate):
    shell(home, "run", "photos")
    shell(home, "run", "gone")
    server = serve(home)
    page = operate(server, "#/jobs/photos")
    expect(card(page, "photos")).to_have_attribute("data-open", "true")
    expect(card(page, "photos")).to_be_in_viewport()
    details = card(page, "photos")
    for words in ("One run", "Log, last lines", "Snapshots", "1 kept", f"{home.parent}/source", "mirror"):
        expect(details).to_contain_text(words)
    page.get_by_label("Details of gone").or_(
        card(page, "gone").get_by_role("button", name="Details of gone")
    ).first.click()
    expect(card(page, "gone")).to_have_attribute("data-open", "true")
    expect(card(page, "gone")).to_contain_text("not-there does not exist")
    expect(card(page, "gone")).to_contain_text("What to do:")
    page.go_back()
    expect(card(page, "photos")).to_have_attribute("data-open", "true")
    page.get_by_label("Collapse photos").click()
    expect(card(page, "photos")).to_have_attribute("data-open", "false")


def test_a_link_to_a_job_that_is_not_there_says_so(home, serve, operate):
    page = operate(serve(home), "#/jobs/holiday")
    expect(page.get_by_text("No job is named “holiday”.")).to_be_visible()


def test_errors_are_filtered_by_the_link_and_by_the_chips(home, serve, operate):
    shell(home, "run", "gone")
    server = serve(home)
    page = operate(server, "#/errors?severity=HIGH")
    rows = page.locator("tr[data-error]")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("not-there does not exist")
    expect(page.get_by_role("button", name="High")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Low").click()
    expect(page).to_have_url(re.compile("severity=LOW"))
    expect(page.get_by_text("No low error.")).to_be_visible()
    page.get_by_role("link", name="Clear the filter").click()
    expect(rows).to_have_count(1)
    rows.get_by_role("link", name="gone").click()
    expect(card(page, "gone")).to_have_attribute("data-open", "true")


def test_runs_lead_to_a_run_with_its_log(home, serve, operate):
    shell(home, "run", "photos")
    page = operate(serve(home), "#/runs")
    row = page.locator("tr[data-run]")
    expect(row).to_contain_text("Succeeded")
    run_id = row.get_attribute("data-run")
    row.get_by_role("link", name=run_id).click()
    expect(page).to_have_url(re.compile(f"#/runs/{run_id}"))
    expect(page.locator("h1")).to_contain_text("photos saved")
    expect(page.get_by_role("log")).to_contain_text(run_id)
    page.goto(page.url.partition("#")[0] + "#/runs/20200101T000000-000000")
    expect(page.locator("h1")).to_have_text("There is no such run.")


def test_a_killed_server_is_missed_and_its_return_noticed(home, serve, operate):
    server = serve(home, port=_free_port())
    page = operate(server)
    page.get_by_label("Filter jobs").fill("o")
    page.evaluate("window.isSamePage = true")
    server.kill()
    expect(page.locator("[data-connection=offline]")).to_be_visible()
    expect(page.locator("h1")).to_contain_text("was protected yet")
    expect(page.get_by_label("Run photos")).to_be_disabled()
    server.start()
    expect(page.locator("[data-connection=live]")).to_be_visible(timeout=40_000)
    assert page.evaluate("window.isSamePage"), "the page was loaded anew"
    expect(page.get_by_label("Filter jobs")).to_have_value("o")
    page.get_by_label("Run photos").click()
    expect(card(page, "photos")).to_have_attribute("data-outcome", "succeeded")


def test_a_broken_jobs_yaml_is_shown_with_its_lines_and_its_mending_noticed(home, serve, operate):
    jobs = home / "jobs.yaml"
    good = jobs.read_text()
    page = operate(serve(home))
    expect(card(page, "photos")).to_be_visible()
    jobs.write_text(good.replace("source:", "sorce:", 1))
    problem = page.get_by_label("Problems in jobs.yaml")
    expect(problem).to_contain_text(re.compile(r"jobs\.yaml:\d+: .*sorce.*Did you mean 'source'\?"))
    expect(card(page, "photos")).to_be_visible()
    expect(page.get_by_label("Run photos")).to_be_disabled()
    jobs.write_text(good)
    expect(problem).to_have_count(0)
    expect(page.get_by_label("Run photos")).to_be_enabled()


def test_a_home_without_jobs_says_how_to_begin(place, serve, operate):
    page = operate(serve(place.home))
    expect(page.locator("h1")).to_have_text("Nothing is backed up yet.")
    expect(page.get_by_text(f"backup-ops --home {place.home} init")).to_be_visible()
    place.write_jobs()
    expect(card(page, "photos")).to_be_visible()


def test_the_keyboard_reaches_everything(home, serve, operate):
    page = operate(serve(home))
    expect(card(page, "gone")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Find job or run")).to_be_focused()
    page.keyboard.type("photos")
    page.keyboard.press("Enter")
    expect(card(page, "photos")).to_have_attribute("data-open", "true")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(card(page, "photos")).to_have_attribute("data-open", "false")
    expect(card(page, "photos")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("j")
    expect(card(page, "photos")).to_be_focused()
    page.once("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("r")
    expect(card(page, "photos")).to_have_attribute("data-outcome", "succeeded")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(home, serve, operate, theme):
    shell(home, "run", "gone")
    page = operate(
        serve(home), "#/jobs/gone", viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=theme
    )
    expect(card(page, "gone")).to_contain_text("What to do:")
    assert page.evaluate("document.getElementById('main').scrollWidth <= document.getElementById('main').clientWidth")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    tall = page.get_by_label("Run gone").bounding_box()["height"]
    assert tall >= 44, "a button too small to touch"
    page.get_by_label("Menu").click()
    page.get_by_role("link", name="Errors").click()
    expect(page.locator("tr[data-error]")).to_have_count(1)


def test_what_tools_and_names_say_is_never_markup(place, serve, operate):
    folder = place.folder / "<img src=x onerror=alert(1)>"
    place.fill(3)
    place.write_jobs(f'odd: {{source: "{folder}", repository: mirror}}')
    shell(place.home, "run", "odd")
    page = operate(serve(place.home), "#/jobs/odd")
    expect(card(page, "odd")).to_contain_text("<img src=x onerror=alert(1)> does not exist")
    assert page.locator("article img").count() == 0


def test_the_browser_says_numbers_and_ages_as_python_does(place, serve, operate):
    place.write_jobs()
    page = operate(serve(place.home))
    said = page.evaluate(
        """async ({seconds, sizes, durations}) => {
          const words = await import(document.querySelector('link[href$="/words.js"]').href)
          return {
            ages: seconds.map(words.age), sizes: sizes.map(words.bytes),
            durations: durations.map(words.duration), counts: sizes.map(words.count),
          }
        }""",
        {"seconds": AGES, "sizes": SIZES, "durations": DURATIONS},
    )
    assert said["ages"] == [verdict.age(seconds) for seconds in AGES]
    assert said["sizes"] == [format_bytes(size) for size in SIZES]
    assert said["durations"] == [format_duration(seconds) for seconds in DURATIONS]
    assert said["counts"] == [format_count(size) for size in SIZES]


def test_a_thousand_jobs_are_a_window_of_cards(place, serve, operate):
    place.write_jobs("\n".join(f"job-{n:04}: {{source: /srv/{n}, repository: mirror}}" for n in range(999)))
    page = operate(serve(place.home), "#/jobs/job-0777")
    expect(card(page, "job-0777")).to_have_attribute("data-open", "true")
    expect(card(page, "job-0777")).to_be_in_viewport()
    assert page.locator("article[data-job]").count() < 120
    page.goto(page.url.partition("#")[0] + "#/jobs")
    page.get_by_label("Filter jobs").fill("job-0123")
    expect(page.locator("article[data-job]")).to_have_count(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
