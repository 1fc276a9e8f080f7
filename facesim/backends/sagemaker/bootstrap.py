"""What a container of AWS' own TensorFlow image executes: it adds what facesim needs and becomes `cluster.node`.

It is copied beside facesim's packages into the channel `source`, and imports nothing of them.
"""

import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    requirements = here / "requirements.txt"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
        check=True,
    )
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Replaces this process, so that the node is process 1 and SIGTERM reaches it.
    os.execv(sys.executable, [sys.executable, "-m", "cluster.node", *sys.argv[1:]])
