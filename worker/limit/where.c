// SPDX-License-Identifier: Apache-2.0
/* where: the folder and the name of a limit's file, and which file systems can hold it. */
#include "worker/limit/where.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

bool df_limit_fs_is_shared(uint64_t magic)
{
	/* f_type of statfs(2). FUSE is on the list since most of it is remote (sshfs, s3fs, gcsfuse, virtiofs), none of it says so, and there neither
	 * a shared mapping nor a lock need reach the other side. OCFS2, GFS2 and the like do map coherently, but their machines do not
	 * share a boot clock. */
	static const uint64_t refused[] = {
		0x6969 /* NFS */,        0x517b /* SMB */,       0xff534d42 /* CIFS */,   0xfe534d42 /* SMB2 */,
		0x01021997 /* 9p */,     0x65735546 /* FUSE */,  0x00c36400 /* Ceph */,   0x0bd00bd0 /* Lustre */,
		0x47504653 /* GPFS */,   0x5346414f /* AFS */,   0x6b414653 /* kAFS */,   0x73757245 /* Coda */,
		0x7461636f /* OCFS2 */,  0x01161970 /* GFS2 */,  0x19830326 /* BeeGFS */, 0x20030528 /* OrangeFS */,
		0x786f4256 /* vboxsf */, 0xbacbacbc /* hgfs */,  0x7c7c6673 /* prl_fs */, 0xaad7aaea /* PanFS */,
		0x564c /* NCP */,        0x013111a8 /* IBRIX */,
	};
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if ((uint32_t)magic == refused[i])
			return true;
	}
	return false;
}

void df_limit_name(const struct df_limit_config *config, char ret_name[DF_LIMIT_NAME])
{
	struct hmac_sha256_ctx hmac;
	uint8_t digest[SHA256_DIGEST_SIZE];
	hmac_sha256_set_key(&hmac, config->key.n, (const uint8_t *)(config->key.n ? config->key.p : ""));
	hmac_sha256_update(&hmac, config->name.n, (const uint8_t *)(config->name.n ? config->name.p : ""));
	hmac_sha256_digest(&hmac, sizeof(digest), digest);
	for (size_t i = 0; i < (DF_LIMIT_NAME - 1) / 2; i++)
		(void)snprintf(ret_name + 2 * i, 3, "%02x", digest[i]);
}

/* A home that is not there is somebody's mistake (a container without one, a wrong variable): to make it would hide that. */
static enum df_err in_home(const char *home, char *ret, size_t size, int *ret_n, struct df_fail *fail)
{
	struct stat st;
	if (stat(home, &st) < 0 || !S_ISDIR(st.st_mode))
		return df_fail(
			fail, DF_ERR_USAGE,
			"no folder for the limits that processes share: HOME is '%.500s', which is no folder; set "
			"HOME, or name a folder by DOCFLUME_LIMITS",
			home);
	*ret_n = snprintf(ret, size, "%s/.local/state/docflume/limits", home);
	return DF_OK;
}

static enum df_err choose(const char *dir, char *ret, size_t size, struct df_fail *fail)
{
	const char *env = getenv("DOCFLUME_LIMITS"), *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n = -1;
	if (dir || (env && *env))
		n = snprintf(ret, size, "%s", dir ? dir : env);
	else if (state && *state == '/')
		n = snprintf(ret, size, "%s/docflume/limits", state);
	else if (home && *home)
		DF_TRY(in_home(home, ret, size, &n, fail));
	else
		return df_fail(fail, DF_ERR_USAGE,
			       "no folder for the limits that processes share: set DOCFLUME_LIMITS or HOME");
	if (n < 0 || (size_t)n >= size)
		return df_fail(fail, DF_ERR_LIMIT, "the name of the folder of limits is longer than %zu bytes",
			       size - 1);
	return DF_OK;
}

/* 0, or why the first folder that is missing cannot be made: what is below it then fails for want of it, and would say so only. */
static int make_all(char *path)
{
	struct stat st;
	for (char *p = path + 1;; p++) {
		if (*p != '/' && *p != '\0')
			continue;
		char was = *p;
		*p = '\0';
		/* EROFS, EACCES of a folder that is there already: mkdir may say those before EEXIST */
		int e = mkdir(path, 0700) < 0 && errno != EEXIST ? errno : 0;
		bool missing = e && stat(path, &st) < 0;
		*p = was;
		if (missing || was == '\0')
			return missing ? e : 0;
	}
}

static enum df_err check_dir(int fd, const char *path, struct df_fail *fail)
{
	struct stat st;
	struct statfs fs;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return df_fail_errno(fail, "cannot look at the folder of limits '%s'", path);
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return df_fail(fail, DF_ERR_USAGE,
			       "the folder of limits '%s' %s; give a folder of your own by DOCFLUME_LIMITS (chmod 700)",
			       path,
			       st.st_uid != geteuid() ? "belongs to another user" : "can be written to by others");
	if (df_limit_fs_is_shared((uint64_t)fs.f_type))
		return df_fail(
			fail, DF_ERR_UNSUPPORTED,
			"the folder of limits '%s' is on a file system (type 0x%lx) where memory cannot be shared by "
			"mapping: name a local one by DOCFLUME_LIMITS",
			path, (unsigned long)(uint32_t)fs.f_type);
	return DF_OK;
}

enum df_err df_limit_dir(const char *dir, char *ret_path, size_t size, int *ret_fd, struct df_fail *fail)
{
	DF_TRY(choose(dir, ret_path, size, fail));
	int e = make_all(ret_path);
	int fd = open(ret_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		errno = e ? e : errno;
		return df_fail_errno(fail,
				     "cannot %s the folder of limits '%s' (DOCFLUME_LIMITS names another, which can be "
				     "written to)",
				     e ? "make" : "open", ret_path);
	}
	enum df_err err = check_dir(fd, ret_path, fail);
	if (err != DF_OK)
		(void)close(fd);
	else
		*ret_fd = fd;
	return err;
}
