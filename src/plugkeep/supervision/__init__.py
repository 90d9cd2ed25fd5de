"""Looking after plugins that run: bringing them back, and asking them how they are."""

from plugkeep.supervision.supervisor import Supervisor as Supervisor
