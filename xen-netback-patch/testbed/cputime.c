/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * xen-cputime: one line of JSON, {"now":NS,"domains":{"ID":NS,...}}: the processor time of each
 * domain so far, as Xen accounts it, and Xen's clock (the time stamp counter, here in nanoseconds).
 */
#include <inttypes.h>
#include <stdio.h>
#include <x86intrin.h>
#include <xenctrl.h>

int main(void)
{
  xc_domaininfo_t infos[64];
  xc_interface *xc = xc_interface_open(NULL, NULL, 0);
  int count, i;

  if (!xc) {
    perror("xen-cputime: xc_interface_open");
    return 1;
  }
  count = xc_domain_getinfolist(xc, 0, 64, infos);
  if (count < 0) {
    perror("xen-cputime: xc_domain_getinfolist");
    return 1;
  }
  printf("{\"now\":%" PRIu64 ",\"domains\":{", (uint64_t)__rdtsc());
  for (i = 0; i < count; i++)
    printf("%s\"%u\":%" PRIu64, i ? "," : "", infos[i].domain, infos[i].cpu_time);
  printf("}}\n");
  xc_interface_close(xc);
  return 0;
}
