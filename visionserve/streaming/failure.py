"""Why a job failed, out of a Java stack trace."""

import re

TRACEBACK = "Traceback (most recent call last):"
# The last line of a trace of Python's, which is not indented, such as "package.module.Error: message".
RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:: .*)?$")
CAUSED = re.compile(r"^(?:(?:Caused by)?: )?(?:[a-z_]\w*\.)+([A-Z][\w$]*)(?:: (.*))?$")
OURS = "visionserve.errors."


def root_cause(stack_trace: str) -> str:
    """One sentence: the error that a Python worker raised, whose trace is in a message, else the innermost Java
    exception, or the one around it where that only says more."""
    _, found, trace = stack_trace.rpartition(TRACEBACK)
    if found:
        raised = next((line for line in trace.splitlines()[1:] if RAISED.match(line)), "a Python worker failed")
        return _sentence(raised.partition(": ")[2] if raised.startswith(OURS) else raised)
    causes = [cause.groups("") for line in stack_trace.splitlines() if (cause := CAUSED.match(line))]
    if not causes:
        return "Flink does not say why."
    kind, message = causes.pop()
    while causes and message and causes[-1][1].endswith(f": {message}") and not CAUSED.match(causes[-1][1]):
        kind, message = causes.pop()
    return _sentence(f"{kind}: {message}" if message else kind)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
