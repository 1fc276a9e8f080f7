"""The packaged facts of instance types, `instance_types.json`: `python -m facesim.billing.instance_types > FILE`.

It needs botocore and moto (the extra `emulator`): the one lists what SageMaker trains on, the other has a copy of what
EC2's DescribeInstanceTypes answers. What moto does not have is below, from AWS' pages on these types.
"""

from __future__ import annotations

import gzip
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: The columns of a row. The network's rates are those of all cards together, None where AWS does not publish a base;
#: the accelerator's memory is that of one of them. `local_storage_gb`: of disks of its own, None without.
COLUMNS = (
    "vcpu", "cores", "memory_gib", "accelerator", "gpus", "gpu_memory_gib", "network_base_gbps", "network_peak_gbps",
    "local_storage_gb",
)  # fmt: skip

#: AWS, EC2 user guide, "Previous generation instances", and the page of P6e-GB200.
_OTHERS = {
    "p2.xlarge": (4, 2, 61, "K80", 1, 12, None, 1.25, None),
    "p2.8xlarge": (32, 16, 488, "K80", 8, 12, 10, 10, None),
    "p2.16xlarge": (64, 32, 732, "K80", 16, 12, 20, 20, None),
    "p3.2xlarge": (8, 4, 61, "V100", 1, 16, None, 10, None),
    "p3.8xlarge": (32, 16, 244, "V100", 4, 16, 10, 10, None),
    "p3.16xlarge": (64, 32, 488, "V100", 8, 16, 25, 25, None),
    "p6e-gb200.36xlarge": (144, 144, 960, "B200", 4, 185, 1600, 1600, 22_500),
}


def facts(described: dict[str, Any]) -> list[Any]:
    """The row of an instance type, from what DescribeInstanceTypes says of it."""
    cards = described["NetworkInfo"]["NetworkCards"]
    gpus = described.get("GpuInfo", {}).get("Gpus") or described.get("NeuronInfo", {}).get("NeuronDevices") or []
    count = sum(one["Count"] for one in gpus)
    peak = sum(card["PeakBandwidthInGbps"] for card in cards)
    return [
        described["VCpuInfo"]["DefaultVCpus"],
        described["VCpuInfo"]["DefaultCores"],
        _number(described["MemoryInfo"]["SizeInMiB"] / 1024),
        gpus[0]["Name"] if gpus else None,
        count,
        round(gpus[0]["MemoryInfo"]["SizeInMiB"] / 1024, 1) if gpus else None,
        _number(sum(card["BaselineBandwidthInGbps"] for card in cards)),
        _number(peak),
        described.get("InstanceStorageInfo", {}).get("TotalSizeInGB"),
    ]


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def generate() -> str:
    """The file's content."""
    import botocore.session
    import moto

    model = botocore.session.get_session().get_service_model("sagemaker")
    names = sorted(model.shape_for("TrainingInstanceType").enum)
    table = Path(moto.__file__).parent / "ec2" / "resources" / "instance_types.json.gz"
    described = json.loads(gzip.decompress(table.read_bytes()))
    rows = {}
    for name in names:
        ec2_name = name.removeprefix("ml.")
        rows[name] = facts(described[ec2_name]) if ec2_name in described else list(_OTHERS[ec2_name])
    rows = dict(sorted(rows.items(), key=lambda item: (item[0].split(".")[1], item[1][0])))  # a family by size
    head = {
        "generated_by": "python -m facesim.billing.instance_types",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "source": f"training instance types of botocore {version('botocore')}; facts of EC2's DescribeInstanceTypes "
        f"as moto {version('moto')} has them",
        "columns": COLUMNS,
    }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    return json.dumps(head, indent=1)[:-2] + ',\n "types": {\n' + lines + "\n }\n}"


if __name__ == "__main__":
    print(generate())
