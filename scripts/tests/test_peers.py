"""What the scripts read and search, on texts and figures whose answers are known: python3 -m unittest discover scripts/tests"""
import base64
import os
import struct
import sys
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from peers import clients, frontier, hdr  # noqa: E402
from peers.children import Failed  # noqa: E402

WRK = """Running 3s test @ http://127.0.0.1:58367/
  1 threads and 10 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   101.44ms  238.84ms   1.00s    86.68%
    Req/Sec    69.64k    18.81k   95.49k    90.48%
  Latency Distribution
     50%   63.00us
     75%    3.06ms
     90%  504.82ms
     99%    1.15s 
  146252 requests in 3.01s, 20.78MB read
  Socket errors: connect 0, read 0, write 0, timeout 10
  Non-2xx or 3xx responses: 2
Requests/sec:  48604.88
"""

OHA = """{"summary": {"successRate": 1.0, "slowest": 0.0108}, "latencyPercentiles": {"p50": 0.0002, "p99": null},
 "statusCodeDistribution": {"200": 6995, "500": 10}, "errorDistribution": {"aborted due to deadline": 10}}"""

MIPRO = """{"rungs": [{"accounting": {"intended": 12, "ok": 9, "read": 1, "unsent": 2, "in_flight_at_end": 0, "timeout": 0},
 "rollout": {"response": {"p50_us": 20.5, "p99_us": null, "max_us": 70.0, "mean_us": 30.0, "hdr": ""}},
 "validity": {"ok": false, "reasons": ["the generator fell behind"]}}]}"""


def ran(out, err="", code=0):
    return clients.Ran(code, out, err, 1.0, 0)


class Reading(unittest.TestCase):
    def test_wrk(self):
        seen = clients.read_wrk(ran(WRK))
        self.assertEqual((seen.ok, seen.failed, seen.accounted), (146250, 2, 146252))
        self.assertEqual((seen.p50_us, seen.p99_us, seen.max_us), (63.0, 1.15e6, 1e6))
        self.assertIn("timeout 10", seen.remark)
        self.assertEqual(clients.wrk_us("1.5m"), 90e6)
        self.assertIsNone(clients.wrk_us("nan"))

    def test_oha(self):
        seen = clients.read_oha(ran(OHA))
        self.assertEqual((seen.ok, seen.failed, seen.accounted), (6995, 20, 7015))
        self.assertEqual((seen.p50_us, seen.p99_us, round(seen.max_us)), (200.0, None, 10_800))
        self.assertEqual(seen.remark, "10 aborted due to deadline")

    def test_mipro(self):
        seen = clients.read_mipro(ran(MIPRO))
        self.assertEqual((seen.intended, seen.accounted, seen.ok, seen.failed), (12, 12, 9, 3))
        self.assertEqual((seen.p50_us, seen.p99_us, seen.remark), (20.5, None, "2 unsent"))

    def test_a_client_that_says_nothing_has_failed(self):
        for read in (clients.read_wrk, clients.read_oha, clients.read_mipro):
            with self.assertRaisesRegex(Failed, "no such host"):
                read(ran("", "no such host", 1))


def zigzag(number):
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def histogram(counts):
    """As HdrHistogram writes it: three digits, from 1 up."""
    payload = b"".join(map(zigzag, counts))
    plain = struct.pack(">IIIIQQd", hdr.COOKIE | 0x10, len(payload), 0, 3, 1, 3_600_000_000_000, 1.0) + payload
    packed = zlib.compress(plain)
    return base64.b64encode(struct.pack(">II", hdr.COOKIE_DEFLATE | 0x10, len(packed)) + packed).decode()


class Histograms(unittest.TestCase):
    def test_values_are_where_the_format_has_them(self):
        # Index 5 is 5; index 2,047 the last of single values; from 2,048 on two values share one, from 3,072 four.
        text = histogram([-5, 2, -2041, 300, 1, -1023, 4])
        self.assertEqual(dict(hdr.decode(text)), {5: 2, 2047: 300, 2049: 1, 4099: 4})
        self.assertEqual(dict(hdr.decode("")), {})

    def test_a_percentile_needs_ten_samples_beyond_it(self):
        counts = hdr.Counter({1000: 990, 5000: 10})
        self.assertEqual((hdr.quantile_us(counts, 0.5), hdr.quantile_us(counts, 0.99), hdr.quantile_us(counts, 0.999)), (1.0, 1.0, None))
        counts[5000] += 1
        self.assertEqual(hdr.quantile_us(counts, 0.99), 5.0)

    def test_what_is_no_histogram_is_refused(self):
        with self.assertRaises(ValueError):
            hdr.decode(base64.b64encode(b"12345678").decode())


class Searching(unittest.TestCase):
    def search(self, p99_us, begin, limit_us=1000.0):
        asked = []

        def stage(step):
            asked.append(step)
            return p99_us(step, asked.count(step))

        return frontier.Frontier(stage).find(limit_us, begin), asked

    def test_the_highest_step_that_holds_is_found_from_anywhere(self):
        holds_to = lambda last: lambda step, _: frontier.Stage(10.0 if step <= last else 5000.0)
        for last in (0, 1, 7, 30, 43):
            for begin in (0, 8, 31, frontier.LAST_STEP):
                found, asked = self.search(holds_to(last), begin)
                self.assertEqual(found, frontier.Found(last), f"{last} from {begin}: {asked}")

    def test_the_ends_of_the_grid_are_told(self):
        self.assertEqual(self.search(lambda *_: frontier.Stage(10.0), 10)[0], frontier.Found(frontier.LAST_STEP, "the grid ends"))
        self.assertEqual(self.search(lambda *_: frontier.Stage(10.0, failed=1), 10)[0], frontier.Found(None))

    def test_a_rate_gets_a_second_chance_and_no_third(self):
        once = lambda step, time: frontier.Stage(10.0 if step <= 12 and time == 2 else 5000.0)
        found, asked = self.search(once, 12)
        self.assertEqual(found.step, 12)
        self.assertLessEqual(max(map(asked.count, asked)), 2)

    def test_a_generator_that_gives_out_is_no_limit_of_the_target(self):
        gives_out = lambda step, _: frontier.Stage(10.0, generator="the generator fell behind" if step > 9 else "")
        self.assertEqual(self.search(gives_out, 4)[0], frontier.Found(9, "the generator gave out"))

    def test_stages_are_shared_between_limits(self):
        asked = []
        search = frontier.Frontier(lambda step: asked.append(step) or frontier.Stage(100.0 * step))
        high = search.find(2050.0, 8)
        before = len(asked)
        low = search.find(2045.0, high.step)
        self.assertEqual((high.step, low.step), (20, 20))
        self.assertEqual(asked[before:], [])

    def test_rates_and_steps(self):
        self.assertEqual([frontier.rate(0), frontier.rate(4)], [25.0, 50.0])
        self.assertEqual([frontier.step_at(rate) for rate in (1, 25, 49.9, 50, 1e9)], [0, 0, 3, 4, frontier.LAST_STEP])


if __name__ == "__main__":
    unittest.main()
