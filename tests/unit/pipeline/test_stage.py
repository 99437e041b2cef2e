import subprocess
import sys

#: Types that msgspec has not met yet, one set after the other, each read by several threads at the same moment.
FIRST_RECORDS = """
import sys, threading
import msgspec
from contracts.envelope import Item
from pipeline.judgement import decode_record
from pipeline.stage import Stage

def made():
    inner = msgspec.defstruct("Inner", [("a", "int | None", None), ("b", list[str], [])])
    middle = msgspec.defstruct("Middle", [("one", inner), ("many", list[inner], [])])
    return msgspec.defstruct("Outer", [("first", middle), ("others", dict[str, middle], {}), ("x", int, 0)])

body = msgspec.Raw(b'{"x":1,"first":{"one":{"a":1}},"others":{"k":{"one":{},"many":[{}]}}}')
item = Item(id="r-1", subject="s", revision="1", correlationid="c", body=body)
sys.setswitchinterval(1e-6)
for number in range(int(sys.argv[1])):
    stage = Stage(name=f"s{number}", consumes=made(), emits=None, handle=print, waits=False)
    together = threading.Barrier(4)

    def read():
        together.wait()
        assert decode_record(stage, item).x == 1

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_all_get_their_first_record_at_once_read_it():
    """Two that make msgspec look at a type for the first time, at the same moment, end the process."""
    done = subprocess.run([sys.executable, "-c", FIRST_RECORDS, "1000"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
