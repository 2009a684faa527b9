"""The WSGI entry point: `gunicorn` and `flask` find the application here."""

from app import create_app
from app.platform import startup

app = create_app(startup.settings_or_exit())
