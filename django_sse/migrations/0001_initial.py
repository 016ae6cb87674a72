from __future__ import annotations

from typing import Any

import django.db.models.functions.datetime
from django.db import migrations, models, router

import django_sse.models


def holds_the_log(apps: Any, schema_editor: Any) -> bool:
    return bool(router.allow_migrate_model(schema_editor.connection.alias, apps.get_model("django_sse", "Head")))


def make_head(apps: Any, schema_editor: Any) -> None:
    """Here, so that no two publishers have to make it at once."""
    if holds_the_log(apps, schema_editor):
        head = apps.get_model("django_sse", "Head")
        head.objects.using(schema_editor.connection.alias).create(pk=1)


def compare_exactly(apps: Any, schema_editor: Any) -> None:
    """Channels and keys are ASCII and case-sensitive; MySQL's usual collation would hold "A" and "a" for the same."""
    if schema_editor.connection.vendor != "mysql" or not holds_the_log(apps, schema_editor):
        return
    schema_editor.execute(
        "ALTER TABLE django_sse_event "
        "MODIFY channel varchar(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, "
        "MODIFY `key` varchar(200) CHARACTER SET ascii COLLATE ascii_bin NULL"
    )


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Head",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("position", models.PositiveBigIntegerField(default=0)),
                ("floor", models.PositiveBigIntegerField(default=0)),
                ("generation", models.PositiveBigIntegerField(default=0)),
            ],
            options={"verbose_name": "head"},
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "position",
                    models.PositiveBigIntegerField(editable=False, null=True, unique=True, verbose_name="position"),
                ),
                ("channel", models.CharField(max_length=100, verbose_name="channel")),
                ("type", models.CharField(default="message", max_length=100, verbose_name="type")),
                ("data", django_sse.models.WireTextField(verbose_name="data")),
                ("key", models.CharField(editable=False, max_length=200, null=True, verbose_name="key")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        db_index=True,
                        editable=False,
                        verbose_name="created at",
                    ),
                ),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "indexes": [models.Index(fields=["channel", "position"], name="django_sse_channel_position")],
                "constraints": [models.UniqueConstraint(fields=("channel", "key"), name="django_sse_channel_key")],
            },
        ),
        migrations.RunPython(make_head, migrations.RunPython.noop),
        migrations.RunPython(compare_exactly, migrations.RunPython.noop, atomic=False),
    ]
