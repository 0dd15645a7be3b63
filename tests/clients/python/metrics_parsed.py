"""Reads /metrics with Prometheus' own Python parsers, both formats; fails as they do. Prints the names of the families, one a
line, that both have.

    metrics_parsed.py URL
"""

import sys
import urllib.request

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as text


def fetch(url, accept):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def names(families):
    found = {}
    for family in families:
        assert family.name not in found, f"{family.name} comes twice"
        assert family.documentation, f"{family.name} has no help"
        samples = {}
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
        found[family.name] = samples
    return found


def main():
    url = sys.argv[1]
    kind, body = fetch(url, "text/plain")
    assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
    plain = names(text.text_string_to_metric_families(body))
    kind, body = fetch(url, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
    assert body.endswith("# EOF\n"), body[-80:]
    open_metrics = names(openmetrics.text_string_to_metric_families(body))
    assert plain.keys() == open_metrics.keys(), plain.keys() ^ open_metrics.keys()
    print("\n".join(plain))


main()
