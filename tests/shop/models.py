"""A model whose signals the tests broadcast."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    state = models.CharField(max_length=20, default="new")
    total = models.DecimalField(max_digits=8, decimal_places=2, default=0)

    def __str__(self) -> str:
        return f"order {self.pk}"
