"""The command `prices`: what the catalogue knows, and `prices refresh`, what AWS says."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import click

from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import group
from facesim.util.words import count_text


@group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
@click.pass_context
def prices(ctx: click.Context, as_json: bool) -> None:
    """List the instance types: what each has, its price for training, and where the price is from."""
    if ctx.invoked_subcommand is not None:
        return
    from facesim.billing import assumed_spot_discount, instances
    from facesim.billing.catalogue import types

    rows = list(instances().values())
    if as_json:
        discount = assumed_spot_discount()
        echo(json.dumps({"instances": [asdict(row) for row in rows], "assumed_spot_discount": discount}, indent=1))
        return
    echo(f"{'--instance-type':17}{'$/hour':>9}{'vCPU':>6}{'GiB':>6}{'Gbps':>11}  {'':14}{'price':12}{'region':16}as of")
    for row in rows:
        base = "?" if row.network_base_gbps is None else f"{row.network_base_gbps:g}"
        gpus = f"{row.gpus} {row.accelerator}" if row.gpus else ""
        network = f"{base}/{row.network_peak_gbps:g}"
        shape = f"{row.vcpu:6}{row.memory_gib:6g}{network:>11}  {gpus:14}"
        verified = "verified" if row.price_verified else click.style("UNVERIFIED", fg="yellow") + "  "
        echo(f"{row.name:17}{row.price_usd_per_hour:9.4f}{shape}{verified:12}{row.price_region:16}{row.price_date}")
    echo("\nGbps: sustained/peak. Prices are for training, on demand, in dollars. They are from")
    for date, source in dict.fromkeys((row.price_date, row.price_source) for row in rows):
        echo(f"{date}: {source}")
    for row in rows:
        if row.spot_discount is not None and row.interruptions_percent is None:
            echo(f"{row.name} as spot capacity: {row.spot_discount:.0%} less")
        elif row.spot_discount is not None and row.interruptions_percent is not None:
            # A month has 730 hours; of a host that is reclaimed with probability p in it, -ln(1 - p) / 730 an hour.
            rate = -math.log(1 - min(row.interruptions_percent, 99.0) / 100) / 730
            echo(f"{row.name} as spot capacity: {row.spot_discount:.0%} less, up to {row.interruptions_percent:g} % "
                 f"reclaimed in a month (--spot-rate {rate:.2g})")  # fmt: skip
    if unknown := [name for name in types() if name not in instances()]:
        echo(f"{count_text(len(unknown), 'more type has', 'more types have')} no price here yet: {', '.join(unknown)}")
        echo("facesim prices refresh loads them from AWS' public list, without an account.")
    if not all(row.price_verified for row in rows):
        echo("Those called UNVERIFIED: facesim prices refresh asks AWS for them.")


@prices.command()
@click.option("--region", default="us-east-1", show_default=True, help="AWS region whose prices are wanted")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
@click.pass_context
def refresh(ctx: click.Context, region: str, as_json: bool) -> None:
    """Fetch the prices of a region from AWS' public list, and what spot capacity saves; they are used from then on.

    No account is needed; where the list is out of reach, the Pricing API is asked, which needs credentials. What an
    earlier refresh fetched is replaced, that of another region too."""
    from facesim.billing import instances
    from facesim.billing.refresh import refresh as fetch

    as_json = as_json or bool(ctx.parent and ctx.parent.params["as_json"])  # facesim prices --json refresh

    def progress(products: int) -> None:
        if not as_json:
            echo(f"prices of {region}: {count_text(products, 'product')} read", err=True)

    refreshed = fetch(region, progress)
    if as_json:
        content = {
            "file": str(refreshed.file),
            "region": region,
            "usd_per_hour": refreshed.usd_per_hour,
            "missing": refreshed.missing,
            "spot_types": refreshed.spot,
            "notices": refreshed.notices,
        }
        echo_json(content)
        return
    echo(f"{count_text(len(refreshed.usd_per_hour), 'price')} of {region}, verified today: {refreshed.file}")
    if refreshed.spot:
        echo(
            f"{count_text(refreshed.spot, 'type')} with what spot capacity saves, and, as far as it is known, how "
            "often it goes"
        )
    for notice in refreshed.notices:
        echo(f"notice: {notice}", err=True)
    known = instances()
    priced = [name for name in refreshed.missing if name in known]
    unpriced = [name for name in refreshed.missing if name not in known]
    if priced:
        names = ", ".join(priced)
        echo(f"AWS gives no one price there for {names}: their price is the one that facesim comes with, or your own")
    if unpriced:
        echo(f"AWS gives no one price there for {', '.join(unpriced)}: they have none now")
