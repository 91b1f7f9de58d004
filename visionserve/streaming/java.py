"""The Java that Flink runs on."""

import os
import re
import shutil
import subprocess

from visionserve.errors import MissingError

# Of Flink 2.
OLDEST = 11
PACKAGE = "openjdk-17-jre-headless"


def find_java() -> str:
    """The program. Raises MissingError where there is no Java for Flink."""
    remedy = f"install it (on Debian apt-get install {PACKAGE}), or set JAVA_HOME"
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(os.path.join(home, "bin", "java") if home else "java")
    if java is None:
        where = f"JAVA_HOME={home} holds no bin/java" if home else "there is no java on the PATH"
        raise MissingError(f"Flink needs Java {OLDEST} or newer, and {where}: {remedy}.")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < OLDEST:
        found = f"version {version[1]}" if version else "none that tells its version"
        raise MissingError(f"Flink needs Java {OLDEST} or newer, and {java} is {found}: {remedy}.")
    return java
