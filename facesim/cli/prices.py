"""The command `prices`: what the catalogue knows, and `prices refresh`, what AWS says."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import group


@group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
@click.pass_context
def prices(ctx: click.Context, as_json: bool) -> None:
    """List the instance types: what each has, its price for training, and where the price is from."""
    if ctx.invoked_subcommand is not None:
        return
    from facesim.billing import assumed_spot_discount, instances

    rows = list(instances().values())
    if as_json:
        discount = assumed_spot_discount()
        echo(json.dumps({"instances": [asdict(row) for row in rows], "assumed_spot_discount": discount}, indent=1))
        return
    echo(f"{'--instance-type':17}{'$/hour':>9}{'vCPU':>6}{'GiB':>6}{'Gbps':>9}{'':8}{'price':12}{'region':16}as of")
    for row in rows:
        base = "?" if row.network_base_gbps is None else f"{row.network_base_gbps:g}"
        network = f"{base}/{row.network_peak_gbps:g}"
        shape = f"{row.vcpu:6}{row.memory_gib:6g}{network:>9}  {row.accelerator or '':6}"
        verified = "verified" if row.price_verified else click.style("UNVERIFIED", fg="yellow") + "  "
        echo(f"{row.name:17}{row.price_usd_per_hour:9.4f}{shape}{verified:12}{row.price_region:16}{row.price_date}")
    echo("\nGbps: sustained/peak. Prices are for training, on demand, in dollars. They are from")
    for date, source in dict.fromkeys((row.price_date, row.price_source) for row in rows):
        echo(f"{date}: {source}")
    if not all(row.price_verified for row in rows):
        echo("Those called UNVERIFIED: facesim prices refresh asks AWS for them.")


@prices.command()
@click.option("--region", default="us-east-1", show_default=True, help="AWS region whose prices are wanted")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def refresh(region: str, as_json: bool) -> None:
    """Fetch the prices of a region from AWS (needs credentials); they are used from then on."""
    from facesim.billing.refresh import refresh as fetch

    def progress(products: int) -> None:
        if not as_json:
            echo(f"prices of {region}: {products} products read", err=True)

    refreshed = fetch(region, progress)
    if as_json:
        content = {
            "file": str(refreshed.file),
            "region": region,
            "usd_per_hour": refreshed.usd_per_hour,
            "missing": refreshed.missing,
        }
        echo_json(content)
        return
    echo(f"{len(refreshed.usd_per_hour)} prices of {region}, verified today: {refreshed.file}")
    if refreshed.missing:
        echo(f"AWS gives no one price there for {', '.join(refreshed.missing)}: these stay as they were")
