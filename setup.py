"""Hand the AiiDA registration in setup.json, the one place that lists it, to the build back end."""

import json
from pathlib import Path

from setuptools import setup

setup(**json.loads(Path(__file__).with_name('setup.json').read_text(encoding='utf-8')))
