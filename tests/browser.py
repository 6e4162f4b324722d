"Headless Chromium for the browser tests, driven by Selenium; nothing is looked up or downloaded"

import os, shutil, tempfile

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
MISSING = (
    ""
    if CHROMIUM and DRIVER
    else "no Chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)"
)


def open_browser(width=1280, height=900, downloads=None):
    "A browser with a profile of its own; quit it with `browser.quit()`"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for a in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-sync",
        "no-first-run",
        "disable-dev-shm-usage",
        "disable-component-update",
        f"user-data-dir={tempfile.mkdtemp(prefix='browser-', dir=downloads)}",
        f"window-size={width},{height}",
        "lang=en",
    ):
        options.add_argument(f"--{a}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if downloads:
        options.add_experimental_option(
            "prefs",
            {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        )
    browser = webdriver.Chrome(options, Service(DRIVER, env=os.environ | {"SE_OFFLINE": "true"}))
    browser.set_page_load_timeout(30)
    browser.set_script_timeout(30)
    browser.implicitly_wait(0)
    browser.command_executor.client_config.timeout = (
        40  # a browser that hangs is a failure, not a wait
    )
    return browser


def size(browser, width, height, scale=1, mobile=False):
    "The size of what is seen, in CSS pixels"
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile},
    )


def dark(browser, on=True):
    "The reader's preference for dark or light"
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]},
    )
