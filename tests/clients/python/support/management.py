"""A client of the management HTTP API: single requests over http.client."""

import base64
import http.client
import json
from urllib.parse import quote

GUEST = ("guest", "guest")


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    def refusal(self):
        """(status, error, reason) of a refusal."""
        assert self.headers["content-type"] == "application/json"
        fields = self.json
        return self.status, fields["error"], fields["reason"]


class Management:
    """The API at one address."""

    def __init__(self, address, user=GUEST):
        self.address = address
        self.user = user

    def as_user(self, name, password):
        return Management(self.address, (name, password))

    def request(self, method, path, headers=None, body=None):
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        headers = dict(headers or {})
        if self.user is not None:
            token = base64.b64encode(":".join(self.user).encode()).decode()
            headers.setdefault("Authorization", f"Basic {token}")
        try:
            connection.request(method, path, body=body, headers=headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, *parts, **query):
        """GET of /api/ and the parts, quoted; what it shows."""
        answer = self.request("GET", path(*parts, **query))
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    def send(self, method, *parts, body=None, headers=None, **query):
        """A request with a body of JSON; its answer, which is no failure of the broker."""
        text = None if body is None else json.dumps(body)
        answer = self.request(method, path(*parts, **query), headers, text)
        assert answer.status < 500, (method, parts, answer.status, answer.body)
        return answer

    def put(self, *parts, **options):
        return self.send("PUT", *parts, **options)

    def post(self, *parts, **options):
        return self.send("POST", *parts, **options)

    def delete(self, *parts, **options):
        return self.send("DELETE", *parts, **options)

    def refusal(self, *parts, method="GET", **query):
        return self.request(method, path(*parts, **query)).refusal()


def path(*parts, **query):
    """The path of an API resource; the virtual host / becomes %2F."""
    text = "/api/" + "/".join(quote(str(part), safe="") for part in parts)
    if query:
        text += "?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
    return text
