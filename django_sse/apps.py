from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _


class DjangoSSEConfig(AppConfig):
    name = "django_sse"
    verbose_name = _("Server-sent events")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_sse.checks import check_deployment, check_settings  # the registry must be ready first

        checks.register(check_settings)
        checks.register(check_deployment, deploy=True)
