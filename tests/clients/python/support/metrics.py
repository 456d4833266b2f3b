"""A client of the metrics: what is scraped, by Prometheus' own parser."""

import http.client

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """One answer: its text, its families by name, its samples."""

    def __init__(self, text):
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def all(self, name, **labels):
        """(labels, value) of the samples with this name and at least these labels."""
        return [(sample.labels, sample.value) for sample in self.samples
                if sample.name == name and labels.items() <= sample.labels.items()]

    def value(self, name, **labels):
        """The value of the one sample that there is."""
        found = self.all(name, **labels)
        assert len(found) == 1, (name, labels, found)
        return found[0][1]

    def has(self, name):
        return any(sample.name == name for sample in self.samples)


def scrape(address, path="/metrics"):
    """Asks without a login."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        assert answer.headers["content-type"] == "text/plain; version=0.0.4"
        return Scrape(text)
    finally:
        connection.close()
