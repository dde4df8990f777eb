"""The demo's Airflow is configured for itself alone."""

from pathlib import Path

from wideloop.operators.commands.demo.airflow_home import USER, AirflowHome


def test_the_password_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path)
    first = home.password()
    assert len(first) >= 12
    assert home.password() == first
    assert home.passwords.stat().st_mode & 0o777 == 0o600
    assert AirflowHome(tmp_path / "other").password() != first


def test_an_interrupted_making_of_the_password_is_repeated(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path)
    home.folder.mkdir()
    home.passwords.with_suffix(".tmp").write_text("{")
    assert home.password()


def test_settings_of_another_airflow_are_dropped(tmp_path: Path) -> None:
    shell = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://prod",
        "AIRFLOW_CONN_X": "x",
        "PATH": "/bin",
        "A": "1",
    }
    environment = AirflowHome(tmp_path).environment(shell)
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in environment
    assert "AIRFLOW_CONN_X" not in environment
    assert environment["A"] == "1"
    assert environment["PATH"].endswith(":/bin")
    assert environment["AIRFLOW_HOME"].startswith(str(tmp_path))


def test_the_password_is_not_in_the_environment_tasks_inherit(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path)
    assert home.password() not in str(home.environment({}))


def test_every_listener_follows_the_port(tmp_path: Path) -> None:
    environment = AirflowHome(tmp_path, port=9090).environment({})
    assert environment["AIRFLOW__API__PORT"] == "9090"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://localhost:9090/execution/"
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    logs = {environment[f"AIRFLOW__LOGGING__{kind}_LOG_SERVER_PORT"] for kind in ("WORKER", "TRIGGER")}
    assert len(logs) == 2
    assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == f"{USER}:admin"
