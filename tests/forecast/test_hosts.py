"""Types of hosts: the catalogue's, and a user's own."""

from __future__ import annotations

import pytest

from facesim.billing import assumed_spot_discount, instances
from facesim.forecast.hosts import host, hosts
from facesim.util.errors import InputError

MINE = """
[instances."lab.node"]
vcpu = 16
cores = 8
memory_gib = 64
relative_speed = 9.5
network_base_gbps = 1
network_peak_gbps = 1
price_usd_per_hour = 0.05

[instances."ml.m5.large"]
price_usd_per_hour = 0.2
spot_usd_per_hour = 0.07
"""


def test_every_type_of_the_catalogue_is_a_host_whose_constants_say_where_they_are_from():
    known = hosts()

    assert set(known) == set(instances())
    for kind in known.values():
        assert kind.speed_source and kind.speed_date and kind.price_source and kind.price_date
        assert kind.cores * 2 == kind.vcpu
        assert kind.peak_bytes_per_s >= kind.base_bytes_per_s


def test_where_a_network_bursts_and_for_how_long():
    small, steady = hosts()["ml.m5.xlarge"], hosts()["ml.c5.9xlarge"]

    assert small.base_bytes_per_s == pytest.approx(1.25e9 / 8 * small.goodput)
    assert small.bucket_bytes == pytest.approx(600 * (10 - 1.25) * 1e9 / 8 * small.goodput)
    assert steady.bucket_bytes == 0 and steady.peak_bytes_per_s == steady.base_bytes_per_s


def test_assumed_speeds_are_said_and_are_less_sure():
    kind = hosts()["ml.m5.2xlarge"]

    assert kind.speed_half_width == 0.25
    assert any("speed of ml.m5.2xlarge is assumed" in text for text in kind.assumptions(spot=False))
    assert any("spot price" in text for text in kind.assumptions(spot=True))


def test_a_users_own_types_and_prices_win_and_count_as_measured(tmp_path):
    file = tmp_path / "instances.toml"
    file.write_text(MINE)

    known = hosts(file)

    assert known["lab.node"].relative_speed == 9.5
    assert known["lab.node"].assumptions(spot=False) == []
    assert known["ml.m5.large"].usd_per_hour(spot=True) == 0.07
    assert known["ml.m5.large"].vcpu == 2
    assert hosts()["ml.m5.large"].usd_per_hour(spot=True) == pytest.approx(0.115 * (1 - assumed_spot_discount()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[instances.x]\nvcpu = 2\n", "x.cores is missing: a type that is not in the catalogue needs it"),
        ('[instances."ml.m5.large"]\nvcpus = 2\n', "ml.m5.large.vcpus: there is no such field; there are vcpu, cores,"),
        ('[instances."ml.m5.large"]\nprice_usd_per_hour = -1\n', "greater than or equal to 0, not -1"),
        ('[instances."ml.m5.large"]\nnetwork_peak_gbps = 0.1\n', "must be at least network_base_gbps"),
        ('[instances."ml.m5.large"]\nvcpu = "two"\n', "not 'two'"),
        ('[instances."ml.m5.large"]\nvcpu = true\n', "ml.m5.large.vcpu: Input should be a valid integer, not True"),
        ('[instances."ml.m5.large"]\nvcpu = "2"\n', "ml.m5.large.vcpu: Input should be a valid integer, not '2'"),
        ('[instances."ml.m5.large"]\ncores = 3\n', "cores 3, which are physical, must be at most vcpu, 2"),
        ('[instances."ml.m5.large"]\nprice_usd_per_hour = 1e308\n', "less than or equal to 1000000, not 1e+308"),
        ('[instances."ml.m5.large"]\nrelative_speed = 1e-300\n', "greater than or equal to 0.001, not 1e-300"),
        (
            '[instances."ml.m5.large"]\nspot_usd_per_hour = 5\n',
            "large: spot_usd_per_hour 5 must be at most price_usd_per_hour",
        ),
        ('[instances."ml.m5.large"]\nname = "ml.c5.xlarge"\n', "a type is called as its table is"),
        ("[instances]\n", "must have tables"),
        ('[instances.""]\nvcpu = 2\n', "a type cannot be called ''"),
        (
            '[instances."ml.m5.large "]\nvcpu = 2\n',
            "called 'ml.m5.large ': give it a name that can be printed, with no space",
        ),
        ('[instances."a\\u001b[31m"]\nvcpu = 2\n', "a type cannot be called 'a\\x1b[31m'"),
        ("[hosts.x]\nvcpu = 2\n", "must have tables"),
        ("instances = 3\n", "must have tables"),
        ("[instances]\nx = 3\n", "it must be a table"),
        ("not toml", "cannot be read as TOML"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "instances.toml"
    file.write_text(text)

    with pytest.raises(InputError) as error:
        hosts(file)

    assert message in str(error.value) and str(file) in str(error.value)


def test_a_price_of_ones_own_is_not_beside_a_spot_price_that_was_below_another(tmp_path):
    file = tmp_path / "instances.toml"
    file.write_text('[instances."ml.m5.large"]\nprice_usd_per_hour = 0.01\n')
    known = {"ml.m5.large": hosts()["ml.m5.large"].model_copy(update={"spot_usd_per_hour": 0.05})}

    kind = hosts(file, known)["ml.m5.large"]

    assert kind.usd_per_hour(spot=True) < 0.01 and "the spot price of ml.m5.large is assumed" in kind.assumptions(True)


def test_an_unknown_type_is_refused_with_a_likely_one():
    with pytest.raises(InputError, match=r"did you mean ml\.m5\.large"):
        host("ml.m5.larg", hosts())
