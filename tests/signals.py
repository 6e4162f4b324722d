"""Ctrl-C in the tests"""

import signal


def hear_ctrl_c():
    "To be called in a new process: a shell's background jobs ignore Ctrl-C, and so would this"
    signal.signal(signal.SIGINT, signal.SIG_DFL)
