"""The WSGI entry point: `gunicorn` and `flask` find the application here."""

import sys

from app import create_app
from app.platform import logging
from app.platform.settings import EXIT_CODE, SettingsError

try:
    app = create_app()
except SettingsError as refusal:
    logging.complain("settings_refused", refusal.problems, as_json=refusal.production)
    sys.exit(EXIT_CODE)
