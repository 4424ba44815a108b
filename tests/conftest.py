"""What every test needs of the process that runs it."""

import signal

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
