"""The real server with limits that no option reaches: python tight_server.py MODEL '{"header_seconds": 0.3}'."""

import json
import sys

from bdd_tf.edge.detector import Detector
from bdd_tf.service.app import create_app
from bdd_tf.service.limits import Limits
from bdd_tf.service.middleware import Guard, Hosts
from bdd_tf.service.server import bind, run

model, changes = sys.argv[1:]
limits = Limits(**json.loads(changes))
with Detector(model) as detector:
    listening = bind("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", file=sys.stderr, flush=True)
    app = create_app(detector, "tight", limits)
    run(Guard(app, Hosts("127.0.0.1"), limits.linger_seconds), listening, limits)
    app.state.workers.close()
