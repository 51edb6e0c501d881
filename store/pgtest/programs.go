package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// binVariable names the folder of PostgreSQL's programs where it is not found by
// itself.
const binVariable = "POSTRIDER_TEST_PG_BIN"

var errNoPostgres = errors.New("PostgreSQL's programs initdb and postgres are not on this machine: " +
	"install them (Debian: apt-get install postgresql) or set " + binVariable + " to their folder")

// programs returns the folder that holds initdb and postgres.
func programs() (string, error) {
	if named := os.Getenv(binVariable); named != "" {
		if !complete(named) {
			return "", fmt.Errorf("%s=%s: no initdb and postgres in there", binVariable, named)
		}
		return named, nil
	}
	var folders []string
	for _, program := range []string{"initdb", "postgres"} {
		if path, err := exec.LookPath(program); err == nil {
			folders = append(folders, filepath.Dir(path))
			if target, err := filepath.EvalSymlinks(path); err == nil {
				folders = append(folders, filepath.Dir(target))
			}
		}
	}
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.Reverse(installed) // newer ones first
	for _, folder := range append(folders, installed...) {
		if complete(folder) {
			return folder, nil
		}
	}
	return "", errNoPostgres
}

func complete(folder string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(folder, program)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// account is who runs the server: PostgreSQL refuses to run as root, so for root
// it is another user.
type account struct {
	credential *syscall.Credential // nil: whoever runs the tests
}

func serverUser() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, err
		}
		return account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

// own gives the files to the account.
func (a account) own(paths ...string) error {
	if a.credential == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
			return err
		}
	}
	return nil
}
