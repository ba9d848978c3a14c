/* The options of pyxis, and no container: a SPANK plugin for tests. What a job step was asked for is added to LOG, a line an option,
   and its tasks get WITHOUT_IMAGE, as an image would bring its own. Declared here are the few parts of slurm/spank.h that it needs. */
#include <stdio.h>

typedef int (*callback)(int value, const char *argument, int remote);
struct spank_option { char *name, *argument, *usage; int has_argument, value; callback call; };
int spank_option_register(void *spank, struct spank_option *option);
int spank_setenv(void *spank, const char *name, const char *value, int overwrite);

const char plugin_name[] = "pyxis", plugin_type[] = "spank";
const unsigned int plugin_version = VERSION, spank_plugin_version = 1;

static const char *names[] = {"container-image", "container-mounts", "no-container-mount-home", "no-container-entrypoint"};

static int note(int value, const char *argument, int remote) {
  FILE *log = remote ? fopen(LOG, "a") : NULL;
  if (log) {
    fprintf(log, "%s=%s\n", names[value], argument ? argument : "");
    fclose(log);
  }
  return 0;
}

int slurm_spank_init(void *spank, int count, char **words) {
  for (int i = 0; i < 4; i++) {
    struct spank_option option = {(char *)names[i], i < 2 ? "WORD" : NULL, "of pyxis", i < 2, i, note};
    if (spank_option_register(spank, &option))
      return -1;
  }
  return 0;
}

int slurm_spank_task_init(void *spank, int count, char **words) {
  return spank_setenv(spank, "PYTHONPATH", CODE, 1);
}
