"""The contender of `bench_prepare.py --beside`: a checkout that prepares one file again and again.

Run: python benchmarks/prepare_contender.py ROWS TARGET
"""

import sys
import time

from turns import serve

from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare

if __name__ == "__main__":
    source, target = sys.argv[1:]

    def work():
        wall, cpu = time.perf_counter(), time.process_time()
        prepare(source, target, PrepareOptions(format="criteo", overwrite=True))
        return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    work()  # what is loaded and compiled once
    serve(work, {})
