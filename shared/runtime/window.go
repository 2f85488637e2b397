package runtime

import (
	"time"

	"github.com/exesdb/exesdb/shared/config"
)

// Window is for how long a heartbeat speaks for its node where a wrong verdict
// would close the API: generous, because a busy machine beats late. The failure
// detector of the cluster service is stricter.
func Window(c config.Common) time.Duration { return 10 * c.Heartbeat }
