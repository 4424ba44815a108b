"""Waiting for pages in a browser."""

import time


def until(driver, script):
    """Waits for the page; the test fails where it never comes to it."""
    for _ in range(600):
        if driver.execute_script(f"return {script}"):
            return
        time.sleep(0.05)
    raise AssertionError(f"the page never came to: {script}")
