"""A server that speaks the Pricing API's JSON protocol: pages, filters, and refusals, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

PAGE = 2
SERVICES = ("AmazonSageMaker", "AmazonEC2")


def product(name: str, usd: str, region: str = "us-east-1", component: str = "Training", unit: str = "Hrs") -> dict:
    """A product as the API describes it."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": usd}}
    return {
        "serviceCode": "AmazonSageMaker",
        "product": {
            "productFamily": "ML Instance",
            "attributes": {"instanceName": name, "regionCode": region, "component": component},
        },
        "terms": {"OnDemand": {"S.T": {"priceDimensions": {"S.T.D": dimension}}}},
    }


def virtual_machine(name: str, usd: str, region: str = "us-east-1", **attributes: str) -> dict:
    """A product of EC2's."""
    plain = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}
    described = {"instanceType": name, "regionCode": region, "marketoption": "OnDemand", **plain, **attributes}
    terms = {"OnDemand": {"S.T": {"priceDimensions": {"S.T.D": {"unit": "Hrs", "pricePerUnit": {"USD": usd}}}}}}
    return {"serviceCode": "AmazonEC2", "product": {"attributes": described}, "terms": terms}


class PricingApi(ThreadingHTTPServer):
    """Answers GetProducts from `products`; with `refusal`, an error code, it refuses."""

    daemon_threads = True

    def __init__(self, products: list[dict], refusal: str | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        #: Of EC2's spot capacity, by type: dollars an hour in each zone.
        self.spot_usd: dict[str, list[float]] = {}
        self.products = products
        self.refusal = refusal
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(request)
        if self.refusal:
            return 400, {"__type": self.refusal, "Message": "not for you"}
        if target != "AWSPriceListService.GetProducts" or request["ServiceCode"] not in SERVICES:
            return 400, {"__type": "InvalidParameterException", "Message": f"{target} of {request}"}
        wanted = {each["Field"]: each["Value"] for each in request["Filters"]}
        products = [p for p in self.products if p["serviceCode"] == request["ServiceCode"]]
        fitting = [p for p in products if wanted.items() <= p["product"]["attributes"].items()]
        begin = int(request.get("NextToken", 0))
        page = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(p) for p in fitting[begin : begin + PAGE]]}
        return 200, page | ({"NextToken": str(begin + PAGE)} if begin + PAGE < len(fitting) else {})

    def spot_prices(self, request: dict[str, list[str]]) -> tuple[int, bytes]:
        """What EC2 answers to DescribeSpotPriceHistory, in its query protocol."""
        assert request["Action"] == ["DescribeSpotPriceHistory"]
        names = {value[0] for name, value in request.items() if name.startswith("InstanceType.")}
        items = "".join(
            f"<item><instanceType>{name}</instanceType><spotPrice>{usd}</spotPrice></item>"
            for name in sorted(names & self.spot_usd.keys())
            for usd in self.spot_usd[name]
        )
        answer = f"<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken/>"
        return 200, f"{answer}</DescribeSpotPriceHistoryResponse>".encode()


class _Handler(BaseHTTPRequestHandler):
    server: PricingApi

    def do_POST(self) -> None:
        request = self.rfile.read(int(self.headers["Content-Length"]))
        if "X-Amz-Target" in self.headers:
            code, content = self.server.answer(self.headers["X-Amz-Target"], json.loads(request))
            body, kind = json.dumps(content).encode(), "application/x-amz-json-1.1"
        else:
            code, body, kind = *self.server.spot_prices(parse_qs(request.decode())), "text/xml"
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def pricing_api(
    products: list[dict], refusal: str | None = None, spot_usd: dict[str, list[float]] | None = None
) -> Iterator[PricingApi]:
    server = PricingApi(products, refusal)
    server.spot_usd = spot_usd or {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
