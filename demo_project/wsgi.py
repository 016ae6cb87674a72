"""The demo where no connection stays open: ``gunicorn demo_project.wsgi``, after ``make demo`` has set it up once."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
application = StaticFilesHandler(get_wsgi_application())
