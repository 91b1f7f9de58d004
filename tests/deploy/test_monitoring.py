import shutil
from itertools import combinations

import pytest
import yaml

from tests.conftest import REPOSITORY, run
from tests.cortex.promql import dashboard, dashboard_panels

DASHBOARD = REPOSITORY / "deploy" / "grafana" / "visionserve.json"
PROVISIONING = REPOSITORY / "deploy" / "grafana" / "provisioning"
PROMETHEUS = REPOSITORY / "deploy" / "prometheus"


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = dashboard_panels(DASHBOARD)
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_the_data_source_and_the_api_are_chosen_on_the_dashboard():
    variables = {variable["name"]: variable for variable in dashboard(DASHBOARD)["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for panel in dashboard_panels(DASHBOARD):
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"
            selectors = target["expr"].count('{job=~"$job", instance=~"$instance"')
            assert selectors == target["expr"].count("visionserve_") > 0


def test_provisioning_and_scrape_configuration_name_files_that_there_are():
    providers = yaml.safe_load((PROVISIONING / "dashboards" / "visionserve.yaml").read_text())["providers"]
    assert [provider["type"] for provider in providers] == ["file"]
    sources = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert [source["type"] for source in sources] == ["prometheus"]
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).is_file() for name in scraped["rule_files"])
    assert scraped["scrape_configs"][0]["job_name"] == "visionserve"


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian's package prometheus)")
def test_the_alerts_fire_when_they_should_and_only_then():
    done = run(["promtool", "test", "rules", str(PROMETHEUS / "alerts_test.yml")])
    assert done.returncode == 0, done.stdout + done.stderr
