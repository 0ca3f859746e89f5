"""Ends with 0 if the server of this container is alive: its health check."""

import os
import sys
import urllib.request

try:
    with urllib.request.urlopen(f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health", timeout=3) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(str(error))
