from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = (
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("customer", models.CharField(max_length=60)),
                ("item", models.CharField(max_length=60)),
                ("quantity", models.PositiveSmallIntegerField(default=1)),
                ("total", models.DecimalField(decimal_places=2, max_digits=9)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("placed", "Placed"),
                            ("paid", "Paid"),
                            ("packed", "Packed"),
                            ("shipped", "Shipped"),
                            ("delivered", "Delivered"),
                        ],
                        default="placed",
                        max_length=12,
                    ),
                ),
            ],
            options={"ordering": ("-pk",)},
        ),
    )
